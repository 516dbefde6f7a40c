//! Joins `vega bench` to the load generator.

use bench::{BenchError, Order, Pacing, Plan, Stop};
use control::cli::{BenchAnswer, BenchOptions, BenchRefusal};

/// Makes a load and says what came of it. Ctrl-C and SIGTERM end it early, in good order.
pub fn run_bench(options: &BenchOptions) -> Result<BenchAnswer, BenchRefusal> {
    let load = |plan: &Plan| {
        let stop = Stop::on_signals().map_err(BenchError::Signals)?;
        bench::run(plan, &stop)
    };
    let report = plan(options).and_then(|plan| load(&plan)).map_err(|error| refusal(&error))?;
    Ok(BenchAnswer {
        value: serde_json::to_value(&report).expect("a report is plain data"),
        table: report.table(),
        plot: bench::plot::svg(&report),
        good: report.is_good(),
    })
}

fn refusal(error: &BenchError) -> BenchRefusal {
    BenchRefusal { message: error.to_string(), is_usage: error.is_usage() }
}

fn plan(options: &BenchOptions) -> Result<Plan, BenchError> {
    let pacing = match (options.rate_per_second, options.poisson) {
        (None, _) => Pacing::Closed,
        (Some(rate), false) => Pacing::Constant(rate),
        (Some(rate), true) => Pacing::Poisson(rate),
    };
    let target = Plan::for_text(&options.target)?;
    Ok(Plan {
        order: if options.random { Order::Random } else { Order::Sequential },
        read_percent: options.read_percent,
        request_bytes: options.request_bytes,
        depth: options.depth,
        queues: options.queues,
        pacing,
        warm_up: options.warm_up,
        runtime: options.runtime,
        bytes_max: options.bytes_max,
        processors: options.processors.clone(),
        spin_us: options.spin_us,
        client_name: options.client_name.clone().or(target.client_name),
        header_digest: options.header_digest || target.header_digest,
        data_digest: options.data_digest || target.data_digest,
        verify: options.verify,
        overwrite_data: options.overwrite_data,
        confirm_serial: options.confirm_serial.clone().or(target.confirm_serial),
        no_iommu: options.no_iommu || target.no_iommu,
        seed: options.seed,
        target: target.target,
    })
}
