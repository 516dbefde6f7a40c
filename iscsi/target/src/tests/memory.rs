//! Short of memory: those who hold much and take nothing do not hold up the others, and nobody spins.

use super::*;

#[test]
fn a_reader_that_wakes_up_among_others_that_do_not_gets_all_its_data() {
    const READERS: u8 = 32;
    const READS: u32 = 64;
    let mut bench = Bench::new();
    let mut readers: Vec<Client> = (1..=READERS).map(|number| bench.client(number)).collect();
    // Each asks for 4 MiB; the pool has 8 in all.
    for reader in &mut readers {
        for _ in 0..READS {
            reader.send_command(&read_10(0, 128), Data::In(65536));
        }
    }
    bench.turns();
    assert!(bench.core.buffers.available_bytes() < bench.core.buffers.total_bytes() / 2, "the pool is short");
    let awake = &mut readers[5];
    let (mut data_bytes, mut statuses) = (0, 0);
    for _ in 0..200_000 {
        while let Some((header, data)) = awake.next() {
            assert_eq!(header[0], 0x25, "Data-In and nothing else");
            data_bytes += data.len();
            statuses += u32::from(header[1] & 1);
        }
        if statuses == READS {
            break;
        }
        bench.turn();
    }
    assert_eq!((statuses, data_bytes), (READS, READS as usize * 65536), "without a second passing");
    for reader in readers {
        reader.end.reset();
    }
    bench.turns();
    assert_eq!(bench.core.buffers.in_use(), 0);
}

#[test]
fn a_slow_reader_is_slowed_down_and_not_cut_off() {
    let mut bench = Bench::new();
    let mut reader = bench.client(1);
    for _ in 0..64 {
        reader.send_command(&read_10(0, 128), Data::In(65536));
    }
    bench.turns();
    let mut statuses = 0;
    for _ in 0..300 {
        // It takes one PDU a second: four minutes for all.
        bench.pass(Duration::from_secs(1));
        let mut wanted = 1;
        while wanted > 0
            && let Some((header, _)) = reader.next()
        {
            match header[0] {
                0x25 => statuses += u32::from(header[1] & 1),
                0x20 => {
                    let mut pong = [0; 48];
                    pong[..2].copy_from_slice(&[0x40, 0x80]);
                    pong[16..20].fill(0xff);
                    pong[20..24].copy_from_slice(&header[20..24]);
                    pong[24..28].copy_from_slice(&reader.cmd_sn.to_be_bytes());
                    reader.send(&pong, &[]);
                    continue;
                }
                opcode => panic!("opcode {opcode:#04x}"),
            }
            wanted -= 1;
        }
        if statuses == 64 {
            return;
        }
    }
    panic!("{statuses} of 64");
}

#[test]
fn what_waits_for_memory_does_not_keep_the_core_awake() {
    let mut bench = Bench::new();
    let mut client = bench.client(1);
    let mut taken = Vec::new();
    while let Some(sgl) = bench.core.buffers.alloc(65536) {
        taken.push(sgl);
    }
    while let Some(sgl) = bench.core.buffers.alloc(BLOCK) {
        taken.push(sgl);
    }
    // One whose data is still to be asked for, and one whose data stands behind it.
    client.send_command(&write_10(0, 128), Data::Announced(65536));
    client.send_command(&write_10(0, 1), Data::Out(&[1; BLOCK]));
    // Comes to rest although both wait.
    bench.turns();
    assert!(client.next().is_none());
    assert_eq!((bench.turn(), bench.target.may_sleep()), (Progress::Idle, true));
    drop(taken);
    let r2t = client.answer(&mut bench);
    assert_eq!(r2t[0], 0x31);
}

#[test]
fn data_that_never_comes_gives_its_buffer_back() {
    let mut bench = Bench::new();
    let mut client = bench.client(1);
    client.command(&mut bench, &write_10(0, 128), Data::Announced(65536));
    assert_eq!(client.answer(&mut bench)[0], 0x31);
    assert!(bench.core.buffers.in_use() > 0);
    for _ in 0..16 {
        // It is alive otherwise.
        let mut ping = [0; 48];
        ping[..2].copy_from_slice(&[0x40, 0x80]);
        ping[16..20].copy_from_slice(&0x77_u32.to_be_bytes());
        ping[20..24].fill(0xff);
        ping[24..28].copy_from_slice(&client.cmd_sn.to_be_bytes());
        client.send(&ping, &[]);
        bench.pass(Duration::from_secs(7));
        if client.end.is_closed() {
            break;
        }
    }
    assert!(client.end.is_closed());
    assert_eq!(bench.core.buffers.in_use(), 0);
}
