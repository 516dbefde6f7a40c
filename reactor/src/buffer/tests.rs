use super::*;

const CLASSES: [SizeClass; 2] = [SizeClass { bytes: 4096, count: 4 }, SizeClass { bytes: 8192, count: 2 }];

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
}

#[test]
fn the_smallest_class_that_fits_is_taken_and_comes_home() {
    let pool = BufferPool::heap(&CLASSES);
    assert_eq!((pool.total_bytes(), pool.available_bytes(), pool.in_use()), (32768, 32768, 0));
    let small = pool.alloc(4096).expect("free");
    assert_eq!((small.len(), small.segment_count(), small.capacity_bytes()), (4096, 1, 4096));
    let large = pool.alloc(4097).expect("free");
    assert_eq!((large.segment_count(), large.capacity_bytes()), (1, 8192));
    assert_eq!((pool.in_use(), pool.available_bytes()), (2, 32768 - 4096 - 8192));
    drop((small, large));
    assert_eq!((pool.in_use(), pool.available_bytes()), (0, 32768));
}

#[test]
fn an_empty_class_is_replaced_and_a_full_pool_says_none_without_leaking() {
    let pool = BufferPool::heap(&CLASSES);
    let all = pool.alloc(32768).expect("exactly everything");
    assert_eq!((all.segment_count(), pool.in_use(), pool.available_bytes()), (6, 6, 0));
    assert!(pool.alloc(1).is_none());
    assert_eq!(pool.alloc(0).expect("nothing is always there").len(), 0);
    drop(all);
    let held: Vec<_> = (0..4).map(|_| pool.alloc(1).expect("small ones")).collect();
    let from_large = pool.alloc(1).expect("a larger class stands in");
    assert_eq!(from_large.capacity_bytes(), 8192);
    assert!(pool.alloc(8193).is_none(), "only one large one is left");
    assert_eq!(pool.in_use(), 5, "the failed try gave back what it had taken");
    drop((held, from_large));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn the_hottest_buffer_is_handed_out_first() {
    let pool = BufferPool::heap(&CLASSES);
    let address = |sgl: &Sgl| sgl.chunk(0).as_ptr() as usize;
    let (first, second) = (pool.alloc(1).expect("free"), pool.alloc(1).expect("free"));
    let hot = address(&first);
    assert!(hot.is_multiple_of(BUFFER_ALIGN_BYTES) && address(&second).is_multiple_of(BUFFER_ALIGN_BYTES));
    drop(second);
    drop(first);
    assert_eq!(address(&pool.alloc(1).expect("free")), hot);
}

#[test]
fn buffers_do_not_overlap() {
    let pool = BufferPool::heap(&CLASSES);
    let mut all: Vec<Sgl> = (0..6).map(|_| pool.alloc(4096).expect("free")).collect();
    for (index, sgl) in all.iter_mut().enumerate() {
        sgl.fill(0, 4096, index as u8 + 1);
    }
    for (index, sgl) in all.iter().enumerate() {
        assert!(sgl.to_vec().iter().all(|&byte| byte == index as u8 + 1));
    }
}

#[test]
fn a_buffer_outlives_the_handles_of_its_pool() {
    let mut sgl = BufferPool::heap(&CLASSES).alloc(5000).expect("free");
    sgl.copy_in(0, &pattern(5000));
    assert_eq!(sgl.to_vec(), pattern(5000));
}

/// A list of three segments: 4096, 4096 and 1000 bytes.
fn three_segments(pool: &BufferPool) -> Sgl {
    let mut sgl = pool.alloc(4096).expect("free");
    sgl.append(pool.alloc(4096).expect("free"));
    sgl.append(pool.alloc(1000).expect("free"));
    sgl.copy_in(0, &pattern(9192));
    sgl
}

#[test]
fn copies_and_ranges_cross_segments() {
    let pool = BufferPool::heap(&CLASSES);
    let expected = pattern(9192);
    let sgl = three_segments(&pool);
    assert_eq!((sgl.len(), sgl.segment_count()), (9192, 3));
    let edges = [0, 1, 4095, 4096, 4097, 8191, 8192, 8193, 9191, 9192];
    for from in edges {
        for to in edges.into_iter().filter(|&to| to >= from) {
            let mut out = vec![0; to - from];
            sgl.copy_out(from, &mut out);
            assert_eq!(out, expected[from..to]);
            assert_eq!(sgl.range(from, to - from).collect::<Vec<_>>().concat(), expected[from..to]);
            assert!(sgl.range(from, to - from).all(|piece| !piece.is_empty()));
        }
        let chunk = sgl.chunk(from);
        assert_eq!(chunk, &expected[from..from + chunk.len()]);
        assert_eq!(chunk.is_empty(), from == 9192);
    }
    assert_eq!(sgl.chunk(4097).len(), 4095);
    assert_eq!(sgl.segments().map(<[u8]>::len).collect::<Vec<_>>(), [4096, 4096, 1000]);
}

#[test]
fn writes_through_every_door_land_where_they_should() {
    let pool = BufferPool::heap(&CLASSES);
    let (mut sgl, mut expected) = (three_segments(&pool), pattern(9192));
    sgl.fill(4000, 200, 7);
    expected[4000..4200].fill(7);
    sgl.copy_in(8190, &[1, 2, 3, 4]);
    expected[8190..8194].copy_from_slice(&[1, 2, 3, 4]);
    sgl.chunk_mut(4096)[0] = 9;
    expected[4096] = 9;
    sgl.segments_mut().last().expect("three")[999] = 8;
    expected[9191] = 8;
    assert_eq!(sgl.to_vec(), expected);
    let mut copy = BufferPool::heap(&CLASSES).alloc(9192).expect("free");
    copy.fill(0, 9192, 0);
    copy.copy_from(100, &sgl, 4090, 5000);
    assert_eq!(copy.to_vec()[100..5100], expected[4090..9090]);
}

#[test]
fn truncating_gives_buffers_back_and_growing_uses_the_last_ones_room() {
    let pool = BufferPool::heap(&CLASSES);
    let mut sgl = three_segments(&pool);
    sgl.truncate(10_000);
    assert_eq!(sgl.len(), 9192);
    sgl.truncate(4096);
    assert_eq!((sgl.len(), sgl.segment_count(), pool.in_use()), (4096, 1, 1));
    sgl.truncate(100);
    let sgl = sgl.with_len(4000);
    assert_eq!((sgl.len(), sgl.to_vec()), (4000, pattern(4000)));
    let sgl = sgl.with_len(5);
    assert_eq!(sgl.to_vec(), pattern(5));
    let empty = sgl.with_len(0);
    assert_eq!((empty.segment_count(), pool.in_use()), (0, 0));
    assert!(empty.with_len(0).is_empty());
}

#[test]
#[should_panic(expected = "no room in the last buffer")]
fn growing_past_the_buffer_is_a_bug() {
    let _ = Sgl::from_slice_heap(&[1]).with_len(4097);
}

#[test]
#[should_panic(expected = "a range past the end of the list")]
fn a_copy_past_the_end_is_a_bug() {
    Sgl::from_slice_heap(&[1, 2]).copy_in(1, &[1, 2]);
}

#[test]
fn zero_is_told_from_not_zero_at_every_position() {
    assert!(Sgl::empty().is_zero());
    let mut sgl = Sgl::from_slice_heap(&[0; 200]);
    assert!(sgl.is_zero());
    for position in 0..200 {
        sgl.fill(position, 1, 1);
        assert!(!sgl.is_zero());
        sgl.fill(position, 1, 0);
    }
}

#[test]
fn iovecs_skip_what_is_done() {
    let sgl = three_segments(&BufferPool::heap(&CLASSES));
    let lengths = |offset| {
        let mut vectors = SmallVec::new();
        sgl.append_iovecs(offset, &mut vectors);
        vectors.iter().map(|vector| vector.iov_len).collect::<Vec<_>>()
    };
    assert_eq!(lengths(0), [4096, 4096, 1000]);
    assert_eq!(lengths(4096), [4096, 1000]);
    assert_eq!(lengths(5000), [3192, 1000]);
    assert_eq!(lengths(9192), [0; 0]);
}

#[test]
fn a_budget_is_kept() {
    for budget in [0, 8 << 20, 64 << 20, 1 << 30] {
        let classes = SizeClass::for_budget(budget);
        let total = SizeClass::total_bytes(&classes);
        assert!(total <= budget.max(BUFFER_BUDGET_BYTES_MIN));
        assert!(total * 10 >= budget * 9, "little is wasted");
        assert!(classes.iter().all(|class| class.count >= 2));
    }
}

#[test]
fn a_list_is_cut_between_its_buffers_and_joined_again() {
    let pool = BufferPool::heap(&[SizeClass { bytes: 8192, count: 4 }]);
    let mut sgl = pool.alloc(3 * 8192 + 5).expect("it fits");
    let bytes: Vec<u8> = (0..sgl.len()).map(|i| (i % 251) as u8).collect();
    sgl.copy_in(0, &bytes);
    assert!(sgl.take_front(8191).is_empty());
    let mut front = sgl.take_front(2 * 8192 + 8191);
    assert_eq!((front.len(), sgl.len()), (2 * 8192, 8192 + 5));
    assert_eq!(sgl.to_vec(), bytes[2 * 8192..]);
    assert_eq!(sgl.take_front(usize::MAX).len(), 8192 + 5);
    assert!(sgl.is_empty());
    let rest = pool.alloc(5).expect("it fits");
    front.append(rest);
    assert_eq!(front.len(), 2 * 8192 + 5);
}
