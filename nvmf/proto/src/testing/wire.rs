//! PDUs as bytes, both ways, written apart from the code under test. What is parsed must be sound to the last digest.

use nvme_spec::tcp::{
    C2hData, CapsuleCmd, CapsuleResp, CommonHeader, FLAG_DDGST, FLAG_HDGST, FatalErrorStatus, H2cData, IcReq,
    IcResp, PduType, R2t, TermReq,
};
use nvme_spec::{Cqe, Sqe};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::digest::digest;
use crate::error::TermReqCause;

/// How PDUs look on a connection, in one direction.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// Headers have digests.
    pub header_digest: bool,
    /// Data has digests.
    pub data_digest: bool,
    /// Data begins at multiples of this.
    pub alignment_bytes: usize,
}

/// No digests, no alignment beyond a dword.
pub const PLAIN: Wire = Wire { header_digest: false, data_digest: false, alignment_bytes: 4 };

/// A PDU as parsed, without what only frames it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the standard's fields")]
pub enum Pdu {
    IcReq(Box<IcReq>),
    IcResp(Box<IcResp>),
    TermReq { pdu_type: PduType, cause: TermReqCause, header: Vec<u8> },
    CapsuleCmd { sqe: Box<Sqe>, data: Vec<u8> },
    CapsuleResp(Cqe),
    H2cData { cccid: u16, ttag: u16, datao: u32, last: bool, data: Vec<u8> },
    C2hData { cccid: u16, datao: u32, flags: u8, data: Vec<u8> },
    R2t { cccid: u16, ttag: u16, r2to: u32, r2tl: u32 },
}

impl Wire {
    /// A PDU from a header whose common part has type and flags, with lengths and digests put right.
    pub fn pdu<T: IntoBytes + Immutable>(&self, header: &T, data: &[u8]) -> Vec<u8> {
        let mut bytes = header.as_bytes().to_vec();
        bytes[2] = bytes.len() as u8;
        let digest_bytes = if self.header_digest { 4 } else { 0 };
        let mut plen = bytes.len() + digest_bytes;
        let whole_header_bytes = plen;
        if self.header_digest {
            bytes[1] |= FLAG_HDGST;
        }
        if !data.is_empty() {
            let pdo = plen.next_multiple_of(self.alignment_bytes);
            bytes[3] = pdo as u8;
            plen = pdo + data.len();
            if self.data_digest {
                bytes[1] |= FLAG_DDGST;
                plen += 4;
            }
        }
        bytes[4..8].copy_from_slice(&(plen as u32).to_le_bytes());
        if self.header_digest {
            let sum = digest(&bytes);
            bytes.extend(sum);
        }
        if !data.is_empty() {
            bytes.resize(whole_header_bytes.next_multiple_of(self.alignment_bytes), 0x99);
            bytes.extend(data);
            if self.data_digest {
                bytes.extend(digest(data));
            }
        }
        assert_eq!(bytes.len(), plen);
        bytes
    }

    /// CapsuleCmd.
    pub fn capsule(&self, sqe: &Sqe, data: &[u8]) -> Vec<u8> {
        self.pdu(&CapsuleCmd { ch: ch(PduType::CAPSULE_CMD, 0), sqe: *sqe }, data)
    }

    /// CapsuleResp.
    pub fn response(&self, cqe: Cqe) -> Vec<u8> {
        self.pdu(&CapsuleResp { ch: ch(PduType::CAPSULE_RESP, 0), cqe }, &[])
    }

    /// H2CData.
    pub fn h2c_data(&self, cccid: u16, ttag: u16, datao: u32, flags: u8, data: &[u8]) -> Vec<u8> {
        let header = H2cData {
            ch: ch(PduType::H2C_DATA, flags),
            cccid: U16::new(cccid),
            ttag: U16::new(ttag),
            datao: U32::new(datao),
            datal: U32::new(data.len() as u32),
            reserved20: [0; 4],
        };
        self.pdu(&header, data)
    }

    /// C2HData.
    pub fn c2h_data(&self, cccid: u16, datao: u32, flags: u8, data: &[u8]) -> Vec<u8> {
        let header = C2hData {
            ch: ch(PduType::C2H_DATA, flags),
            cccid: U16::new(cccid),
            reserved10: [0; 2],
            datao: U32::new(datao),
            datal: U32::new(data.len() as u32),
            reserved20: [0; 4],
        };
        self.pdu(&header, data)
    }

    /// R2T.
    pub fn r2t(&self, cccid: u16, ttag: u16, r2to: u32, r2tl: u32) -> Vec<u8> {
        let header = R2t {
            ch: ch(PduType::R2T, 0),
            cccid: U16::new(cccid),
            ttag: U16::new(ttag),
            r2to: U32::new(r2to),
            r2tl: U32::new(r2tl),
            reserved20: [0; 4],
        };
        self.pdu(&header, &[])
    }

    /// How many bytes of a stream are whole PDUs.
    pub fn whole_bytes(bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Ok((ch, _)) = CommonHeader::read_from_prefix(&bytes[at..])
            && (1..=bytes.len() - at).contains(&(ch.plen.get() as usize))
        {
            at += ch.plen.get() as usize;
        }
        at
    }

    /// All PDUs of a stream; it must end with a whole one.
    pub fn parse_all(&self, mut bytes: &[u8]) -> Vec<Pdu> {
        let mut pdus = Vec::new();
        while !bytes.is_empty() {
            let (ch, _) = CommonHeader::read_from_prefix(bytes).expect("a whole header");
            let plen = ch.plen.get() as usize;
            assert!(plen <= bytes.len(), "the stream ends within a PDU: {plen} of {}", bytes.len());
            pdus.push(self.parse(&ch, &bytes[..plen]));
            bytes = &bytes[plen..];
        }
        pdus
    }

    fn parse(&self, ch: &CommonHeader, bytes: &[u8]) -> Pdu {
        let hlen = usize::from(ch.hlen);
        match ch.pdu_type {
            PduType::IC_REQ => return Pdu::IcReq(Box::new(read(bytes))),
            PduType::IC_RESP => return Pdu::IcResp(Box::new(read(bytes))),
            PduType::H2C_TERM_REQ | PduType::C2H_TERM_REQ => {
                let term_req: TermReq = read(bytes);
                assert_eq!(hlen, size_of::<TermReq>());
                let cause =
                    TermReqCause { fes: FatalErrorStatus(term_req.fes.get()), fei: term_req.fei.get() };
                return Pdu::TermReq { pdu_type: ch.pdu_type, cause, header: bytes[hlen..].to_vec() };
            }
            _ => {}
        }
        let data = self.data(ch, bytes);
        match ch.pdu_type {
            PduType::CAPSULE_CMD => {
                let capsule: CapsuleCmd = read(bytes);
                Pdu::CapsuleCmd { sqe: Box::new(capsule.sqe), data }
            }
            PduType::CAPSULE_RESP => Pdu::CapsuleResp(read::<CapsuleResp>(bytes).cqe),
            PduType::H2C_DATA => {
                let header: H2cData = read(bytes);
                assert_eq!(header.datal.get() as usize, data.len());
                Pdu::H2cData {
                    cccid: header.cccid.get(),
                    ttag: header.ttag.get(),
                    datao: header.datao.get(),
                    last: ch.flags & 4 != 0,
                    data,
                }
            }
            PduType::C2H_DATA => {
                let header: C2hData = read(bytes);
                assert_eq!(header.datal.get() as usize, data.len());
                let (cccid, datao) = (header.cccid.get(), header.datao.get());
                Pdu::C2hData { cccid, datao, flags: ch.flags & !3, data }
            }
            PduType::R2T => {
                let header: R2t = read(bytes);
                Pdu::R2t {
                    cccid: header.cccid.get(),
                    ttag: header.ttag.get(),
                    r2to: header.r2to.get(),
                    r2tl: header.r2tl.get(),
                }
            }
            other => panic!("no end sends a PDU of type {other:?}"),
        }
    }

    /// The data of a PDU; all that frames it is checked.
    fn data(&self, ch: &CommonHeader, bytes: &[u8]) -> Vec<u8> {
        let hlen = usize::from(ch.hlen);
        let mut end = hlen;
        assert_eq!(ch.flags & FLAG_HDGST != 0, self.header_digest);
        if self.header_digest {
            end += 4;
            assert_eq!(bytes[hlen..end], digest(&bytes[..hlen]), "header digest");
        }
        if bytes.len() == end {
            assert_eq!((ch.pdo, ch.flags & FLAG_DDGST), (0, 0));
            return Vec::new();
        }
        let pdo = usize::from(ch.pdo);
        assert_eq!(pdo, end.next_multiple_of(self.alignment_bytes), "no more padding than needed");
        assert_eq!(ch.flags & FLAG_DDGST != 0, self.data_digest);
        let data_end = bytes.len() - if self.data_digest { 4 } else { 0 };
        let data = &bytes[pdo..data_end];
        if self.data_digest {
            assert_eq!(bytes[data_end..], digest(data), "data digest");
        }
        assert!(!data.is_empty());
        data.to_vec()
    }
}

fn ch(pdu_type: PduType, flags: u8) -> CommonHeader {
    CommonHeader { pdu_type, flags, ..CommonHeader::default() }
}

fn read<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> T {
    T::read_from_prefix(bytes).expect("a whole header").0
}
