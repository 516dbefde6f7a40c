pub fn run(_: &mut crate::report::Report, _: &crate::options::Options) {}
