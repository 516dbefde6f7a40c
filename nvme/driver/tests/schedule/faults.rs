//! Which faults a schedule has: of every kind that a driver must withstand, seldom enough that something is left of the device.

use std::time::Duration;

use nvme_emulated::{Action, CommandMatch, EmulatedController, FatalUntil, Fault, Hang};
use nvme_spec::ae::AsynchronousEvent;
use nvme_spec::{AdminOpcode, NvmOpcode, Status};
use reactor::sim::SimRandom;

use super::below;

fn action(random: &mut SimRandom) -> Action {
    let ms = Duration::from_millis;
    match below(random, 19) {
        0 => Action::Fail(Status::INTERNAL_ERROR),
        1 => Action::Fail(Status::COMMAND_INTERRUPTED),
        2 => Action::Fail(Status::NAMESPACE_NOT_READY),
        3 => Action::DoneButFail(Status::INTERNAL_ERROR),
        4 => Action::DoneButFail(Status::ABORT_REQUESTED),
        5 => Action::Delay(ms(1 + below(random, 20))),
        6 => Action::Delay(ms(300 + below(random, 400))),
        7 => Action::Hang(Hang::UntilAborted),
        8 => Action::Hang(Hang::UntilReset),
        9 | 10 => Action::Hang(Hang::LateAfterAbort(ms(below(random, 150)))),
        11 => Action::DropCompletion,
        12 | 13 => Action::DuplicateCompletion,
        // Above every slot, or of a generation that is never reached.
        14 => Action::InventCompletion { cid: 0xffff },
        15 => Action::InventCompletion { cid: 0xff00 },
        16 => Action::WrongQueue { sqid: 7 },
        17 => Action::LatePhase,
        _ => Action::Fatal(FatalUntil::ControllerReset),
    }
}

fn commands(random: &mut SimRandom) -> CommandMatch {
    match below(random, 5) {
        0 => CommandMatch::nvm(NvmOpcode::READ),
        1 => CommandMatch::nvm(NvmOpcode::WRITE),
        2 => CommandMatch::nvm(NvmOpcode::FLUSH),
        _ => CommandMatch::io(),
    }
}

pub fn choose(random: &mut SimRandom) -> Vec<Fault> {
    let mut faults = Vec::new();
    for _ in 0..below(random, 5) {
        let (on, action) = (commands(random), action(random));
        let fault = match below(random, 3) {
            0 => Fault::nth(on, 1 + below(random, 20), action),
            1 => Fault { times: 3, ..Fault::sometimes(on, 100, action) },
            _ => Fault { times: 2, ..Fault::nth(on, 1 + below(random, 10), action) },
        };
        faults.push(fault);
    }
    if below(random, 6) == 0 {
        let action = Action::Hang(Hang::UntilReset);
        let opcode = if below(random, 2) == 0 { AdminOpcode::ABORT } else { AdminOpcode::IDENTIFY };
        faults.push(Fault::once(CommandMatch::admin(opcode), action));
    }
    faults
}

/// What happens to the controller as a whole, between two I/Os. True when it stops: its driver cannot know before it looks.
pub fn disturb(random: &mut SimRandom, emulated: &EmulatedController) -> bool {
    let chance = below(random, 600);
    match chance {
        0 => emulated.fail(FatalUntil::ControllerReset),
        1 => emulated.fail(FatalUntil::FunctionReset),
        2 => emulated.raise_event(AsynchronousEvent::SMART_TEMPERATURE),
        3 => emulated.raise_event(AsynchronousEvent::NAMESPACE_ATTRIBUTE_CHANGED),
        4 => emulated.remove(),
        5 => emulated.power_off(),
        6 => {
            emulated.power_off();
            emulated.power_on();
        }
        _ => {}
    }
    matches!(chance, 0 | 1 | 4 | 5 | 6)
}
