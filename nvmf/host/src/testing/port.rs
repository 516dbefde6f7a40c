//! One port: its listener, its connections, and the commands that are on their way through it.

use std::cell::RefCell;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::rc::Rc;

use nvme_spec::ae::AsynchronousEvent;
use nvme_spec::log::AnaState;
use nvme_spec::opcode::DataDirection;
use nvme_spec::{Cqe, NvmOpcode, Sqe, Status};
use nvmf_proto::{Admission, Command, CommandId, Event, Purpose, TargetConfig, TargetQueue};
use reactor::net::{Listener, Network, Ready, Stream, StreamGroup};
use reactor::sim::{SimNetwork, SimWorld};

use super::controller::TestController;
use super::medium::{Pairing, Work};
use super::{Script, Shared};
use crate::data::Data;

struct Memory<'a>(&'a mut Pairing);

impl Admission for Memory<'_> {
    type Payload = Data;

    fn host_data_bytes(&mut self, sqe: &Sqe, sgl_bytes: u32) -> Result<u32, Status> {
        self.0.on_capsule(sqe);
        // Of a Fabrics command the type says so, not the opcode.
        let opcode = sqe.fabrics_type().map_or(sqe.opcode, |fctype| fctype.0);
        Ok(if DataDirection::of(opcode) == DataDirection::HostToController { sgl_bytes } else { 0 })
    }

    fn alloc(&mut self, length_bytes: usize, _: Purpose) -> Option<Data> {
        Some(Data::zeros(length_bytes))
    }
}

pub(super) struct Connection {
    pub(super) stream: Box<dyn Stream>,
    pub(super) queue: TargetQueue<Data>,
    /// Queue and controller, after Connect.
    pub(super) qid: Option<u16>,
    pub(super) cntlid: u16,
    pub(super) send_blocked: bool,
    pairing: Pairing,
}

pub(super) struct Port {
    pub(super) shared: Rc<RefCell<Shared>>,
    pub(super) script: Script,
    pub(super) ana_state: AnaState,
    /// The last Connect named the discovery subsystem.
    pub(super) is_discovery: bool,
    pub(super) controllers: Vec<TestController>,
    pub(super) connections: Vec<Option<Connection>>,
    network: SimNetwork,
    address: SocketAddr,
    listener: Option<Box<dyn Listener>>,
    group: Box<dyn StreamGroup>,
    /// Writes that are taken and not executed, with the connection they came on.
    held: Vec<(usize, Work)>,
}

impl Port {
    pub(super) fn new(world: &SimWorld, address: SocketAddr, shared: &Rc<RefCell<Shared>>) -> Self {
        let network = world.network();
        let listener = network.listen(address).expect("a free address");
        Self {
            shared: Rc::clone(shared),
            script: Script::default(),
            ana_state: AnaState::OPTIMIZED,
            is_discovery: false,
            controllers: Vec::new(),
            connections: Vec::new(),
            group: network.group(),
            network,
            address,
            listener: Some(listener),
            held: Vec::new(),
        }
    }

    pub(super) fn poll(&mut self) {
        while let Some(listener) = &mut self.listener
            && let Ok((parcel, _)) = listener.try_accept()
        {
            let token = self.connections.len() as u32;
            let Ok(stream) = self.group.adopt(parcel, token) else { continue };
            let queue = TargetQueue::new(TargetConfig::default());
            let connection = Connection {
                stream,
                queue,
                qid: None,
                cntlid: 0,
                send_blocked: false,
                pairing: Pairing::default(),
            };
            self.connections.push(Some(connection));
        }
        let mut ready: Vec<Ready> = Vec::new();
        self.group.take_ready(&mut ready, 64);
        for ready in ready {
            let index = ready.token as usize;
            if ready.send {
                if let Some(connection) = &mut self.connections[index] {
                    connection.send_blocked = false;
                }
            } else {
                self.receive(index);
            }
        }
        for index in 0..self.connections.len() {
            self.take_events(index);
            self.spoil_stream(index);
            self.send(index);
        }
    }

    fn receive(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else { return };
        let mut bytes = vec![0; 1 << 20];
        match connection.stream.try_recv(&mut [IoSliceMut::new(&mut bytes)]) {
            Ok(0) => self.close(index),
            Ok(count) => {
                let memory = &mut Memory(&mut connection.pairing);
                let consumed = connection.queue.handle_bytes(&bytes[..count], memory);
                assert!(
                    consumed.is_ok_and(|consumed| consumed == count),
                    "the host breaks the protocol: {consumed:?}"
                );
            }
            Err(reactor::net::StreamError::WouldBlock) => {}
            Err(_) => self.close(index),
        }
    }

    fn take_events(&mut self, index: usize) {
        while let Some(connection) = &mut self.connections[index]
            && let Some(event) = connection.queue.next_event()
        {
            match event {
                Event::Initialized(_) => {}
                Event::Command(command) => self.on_command(index, command),
                Event::Close(_) => self.close(index),
            }
        }
    }

    fn on_command(&mut self, index: usize, command: Command<Data>) {
        assert_eq!(command.fault, None, "the transport found fault with {:?}", command.sqe);
        let data = match command.data {
            Some(Data::Heap(bytes)) => bytes,
            _ => Vec::new(),
        };
        let (sqe, id) = (command.sqe, command.id);
        let connection = self.connections[index].as_ref().expect("it gave the command");
        let is_io = connection.qid.is_some_and(|qid| qid > 0);
        if sqe.fabrics_type().is_none() && is_io {
            self.script.seen.push(sqe.opcode);
            match self.script.spoil {
                Some(_) => return self.spoiled_io(index, id, command.sgl_bytes),
                None => return self.on_io(index, id, sqe, data),
            }
        }
        self.on_admin(index, id, &sqe, &data, command.sgl_bytes);
    }

    fn on_io(&mut self, index: usize, id: CommandId, sqe: Sqe, data: Vec<u8>) {
        if self.script.silent {
            return;
        }
        let connection = self.connections[index].as_mut().expect("it gave the command");
        let Some(work) = connection.pairing.join((id, sqe, data)) else { return };
        if let Some(status) = self.script.fail_next.take() {
            return self.fail(index, &work, status);
        }
        if std::mem::take(&mut self.script.wrong_cid) {
            // A capsule response for a CID that no host queue of this size has in flight.
            let mut pdu = vec![5, 0, 24, 0, 24, 0, 0, 0];
            pdu.extend_from_slice(&[0; 12]);
            pdu.extend_from_slice(&[0xff, 0xff, 0, 0]);
            let _ = connection.stream.try_send(&[IoSlice::new(&pdu)]);
            return;
        }
        let status = match self.ana_state {
            AnaState::OPTIMIZED | AnaState::NON_OPTIMIZED => None,
            AnaState::INACCESSIBLE => Some(Status::ANA_INACCESSIBLE),
            AnaState::PERSISTENT_LOSS => Some(Status::ANA_PERSISTENT_LOSS),
            _ => Some(Status::ANA_TRANSITION),
        };
        if let Some(status) = status {
            return work.iter().for_each(|(id, ..)| self.answer(index, *id, Cqe::new(0, status)));
        }
        let changes = [NvmOpcode::WRITE, NvmOpcode::WRITE_ZEROES];
        let changes = work.iter().any(|(_, sqe, _)| changes.contains(&sqe.nvm_opcode()));
        if changes && self.script.hold_writes {
            return self.held.push((index, work));
        }
        self.execute(index, work);
    }

    pub(super) fn answer(&mut self, index: usize, id: CommandId, mut cqe: Cqe) {
        if let Some(spoil) = &mut self.script.spoil {
            spoil.completion(&mut cqe);
        }
        if let Some(connection) = &mut self.connections[index] {
            connection.queue.complete(id, cqe);
        }
    }

    fn send(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else { return };
        while !connection.send_blocked {
            let mut vectors = [IoSlice::new(&[]); 16];
            let count = connection.queue.tx_chunks(&mut vectors);
            if count == 0 {
                return self.take_events(index);
            }
            match connection.stream.try_send(&vectors[..count]) {
                Ok(sent) => connection.queue.tx_advance(sent),
                Err(reactor::net::StreamError::WouldBlock) => {
                    connection.send_blocked = true;
                    self.group.want_send(index as u32);
                }
                Err(_) => return self.close(index),
            }
        }
    }

    pub(super) fn close(&mut self, index: usize) {
        if let Some(connection) = self.connections[index].take() {
            self.group.remove(index as u32);
            if connection.qid == Some(0) {
                self.controllers.retain(|controller| controller.cntlid != connection.cntlid);
            }
        }
    }

    pub(super) fn report(&mut self, event: AsynchronousEvent) {
        let waiting: Vec<_> = self
            .controllers
            .iter_mut()
            .filter_map(|controller| controller.take_event_request(event))
            .collect();
        for (index, id) in waiting {
            let mut cqe = Cqe::new(0, Status::SUCCESS);
            cqe.dw0.set(event.dword());
            self.answer(index, id, cqe);
        }
    }

    pub(super) fn cut(&mut self, queue: Option<u16>) {
        for index in 0..self.connections.len() {
            let qid = self.connections[index].as_ref().and_then(|connection| connection.qid);
            if self.connections[index].is_some() && (queue.is_none() || queue == qid) {
                self.close(index);
            }
        }
    }

    pub(super) fn set_listening(&mut self, listening: bool) {
        self.listener = listening.then(|| self.network.listen(self.address).expect("a free address"));
    }

    pub(super) fn release(&mut self) -> usize {
        let held = std::mem::take(&mut self.held);
        let count = held.len();
        for (index, work) in held {
            self.execute(index, work);
        }
        count
    }

    pub(super) fn drop_held(&mut self) -> usize {
        std::mem::take(&mut self.held).len()
    }
}
