//! Where the bytes of a device lie: at home in their chunk, or in the spare page that stands for their page.

use reactor::memory::PageBlock;

use super::{CHUNK_PAGES, MemoryDevice, PAGE, Piece};

/// A block of memory that holds pages of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    Chunk(usize),
    Spare,
}

/// Bytes that lie side by side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) home: Home,
    /// Where in that block, in bytes.
    pub(super) offset: usize,
    pub(super) length: usize,
    /// Where in the extent, in bytes.
    pub(super) at: usize,
}

impl Piece {
    /// The number, on the device, of the page that holds the byte `done` bytes into the piece.
    fn page(self, done: usize) -> u64 {
        (self.chunk * CHUNK_PAGES + (self.offset + done) / PAGE) as u64
    }

    /// What is left `done` bytes in of the page that holds that byte.
    pub(super) fn rest_of_page(self, done: usize) -> usize {
        self.rest(done, self.page(done) + 1)
    }

    /// What is left `done` bytes in, up to `end_page`.
    fn rest(self, done: usize, end_page: u64) -> usize {
        let page = self.page(done);
        let to_page_end = PAGE - (self.offset + done) % PAGE;
        (to_page_end + (end_page - page - 1) as usize * PAGE).min(self.length - done)
    }

    fn at_home(self, done: usize, length: usize) -> Run {
        Run { home: Home::Chunk(self.chunk), offset: self.offset + done, length, at: self.at + done }
    }

    fn in_spare(self, done: usize, length: usize, spare: u32) -> Run {
        let offset = spare as usize * PAGE + (self.offset + done) % PAGE;
        Run { home: Home::Spare, offset, length, at: self.at + done }
    }
}

impl MemoryDevice {
    pub(super) fn memory(&self, home: Home) -> &PageBlock {
        match home {
            Home::Chunk(chunk) => {
                &self.chunks[chunk].as_ref().expect("a run lies in a chunk that is there").memory
            }
            Home::Spare => self.spare.memory(),
        }
    }

    #[inline]
    fn memory_mut(&mut self, home: Home) -> &mut PageBlock {
        match home {
            Home::Chunk(chunk) => {
                &mut self.chunks[chunk].as_mut().expect("a run lies in a chunk that is there").memory
            }
            Home::Spare => self.spare.memory_mut(),
        }
    }

    #[inline]
    pub(super) fn bytes(&self, run: Run) -> &[u8] {
        self.memory(run.home).bytes(run.offset, run.length)
    }

    #[inline]
    fn bytes_mut(&mut self, run: Run) -> &mut [u8] {
        self.memory_mut(run.home).bytes_mut(run.offset, run.length)
    }

    /// The runs of a piece whose chunk is there.
    #[inline]
    pub(super) fn runs(&self, piece: Piece) -> impl Iterator<Item = Run> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let run = (done < piece.length).then(|| self.run(piece, done))?;
            done += run.length;
            Some(run)
        })
    }

    #[inline]
    fn run(&self, piece: Piece, done: usize) -> Run {
        if self.spare.is_empty() {
            return piece.at_home(done, piece.length - done);
        }
        let page = piece.page(done);
        match self.spare.next(page) {
            Some((moved, spare)) if moved == page => piece.in_spare(done, piece.rest_of_page(done), spare),
            Some((moved, _)) => piece.at_home(done, piece.rest(done, moved)),
            None => piece.at_home(done, piece.length - done),
        }
    }

    /// Gives a piece run by run to `write`, which writes all of it: nobody is shown any of that. With each run comes where in the extent
    /// it begins.
    #[inline]
    pub(super) fn overwrite(&mut self, piece: Piece, write: impl FnMut(&mut [u8], usize)) {
        self.own_runs(piece, false, write);
    }

    /// The same for one that looks at what is there.
    #[inline]
    pub(super) fn change(&mut self, piece: Piece, change: impl FnMut(&mut [u8], usize)) {
        self.own_runs(piece, true, change);
    }

    #[inline]
    fn own_runs(&mut self, piece: Piece, keep: bool, mut write: impl FnMut(&mut [u8], usize)) {
        self.forget_checksums(piece);
        let mut done = 0;
        while done < piece.length {
            let mut run = self.run(piece, done);
            if self.memory(run.home).is_shown(run.offset, run.length) {
                run = self.own_page(piece, done, run, keep);
            }
            write(self.bytes_mut(run), run.at);
            done += run.length;
        }
    }

    #[inline]
    fn forget_checksums(&self, piece: Piece) {
        let chunk = self.chunks[piece.chunk].as_ref().expect("what is written lies in a chunk that is there");
        chunk.checksums.forget(piece.offset / PAGE..=(piece.offset + piece.length - 1) / PAGE);
    }

    /// A run whose first page is shown moves that page; another one ends before the first page that is shown.
    #[cold]
    fn own_page(&mut self, piece: Piece, done: usize, run: Run, keep: bool) -> Run {
        let page = piece.page(done);
        let shown = |from: usize| self.memory(run.home).is_shown(run.offset + from, 1);
        if !shown(0) {
            let mut length = piece.rest_of_page(done);
            while length < run.length && !shown(length) {
                length = (length + PAGE).min(run.length);
            }
            return Run { length, ..run };
        }
        let length = piece.rest_of_page(done);
        let whole = Run { offset: run.offset - run.offset % PAGE, length: PAGE, ..run };
        let home = home_of(page);
        let content = (keep || length < PAGE).then(|| self.copy_of(whole));
        let goes_home = run.home == Home::Spare && !self.memory(home.home).is_shown(home.offset, PAGE);
        let to = if goes_home { home } else { self.spare_page() };
        if let Some(content) = content {
            self.bytes_mut(to).copy_from_slice(&content);
        }
        match to.home {
            Home::Spare => self.spare.set(page, (to.offset / PAGE) as u32),
            Home::Chunk(_) => self.spare.clear(page),
        }
        Run { home: to.home, offset: to.offset + run.offset % PAGE, length, ..run }
    }

    fn copy_of(&self, page: Run) -> [u8; PAGE] {
        self.bytes(page).try_into().expect("a page has its length")
    }

    fn spare_page(&mut self) -> Run {
        let spare = self.spare.take().or_else(|| {
            self.homeward = 0;
            self.move_home(usize::MAX);
            self.spare.take()
        });
        let spare = spare.expect("as many pages are spare as may be shown");
        Run { home: Home::Spare, offset: spare as usize * PAGE, length: PAGE, at: 0 }
    }

    /// Looks at up to `count` of the pages that are away and moves home those whose place nobody is shown.
    pub(super) fn move_home(&mut self, count: usize) {
        let mut from = self.homeward;
        for _ in 0..count {
            let Some((page, spare)) = self.spare.next(from) else {
                from = 0;
                break;
            };
            from = page + 1;
            let home = home_of(page);
            if self.memory(home.home).is_shown(home.offset, PAGE) {
                continue;
            }
            let away = Run { home: Home::Spare, offset: spare as usize * PAGE, ..home };
            let content = self.copy_of(away);
            self.bytes_mut(home).copy_from_slice(&content);
            self.spare.clear(page);
        }
        self.homeward = from;
    }
}

/// A page's own place.
fn home_of(page: u64) -> Run {
    let (chunk, page) = (page as usize / CHUNK_PAGES, page as usize % CHUNK_PAGES);
    Run { home: Home::Chunk(chunk), offset: page * PAGE, length: PAGE, at: 0 }
}
