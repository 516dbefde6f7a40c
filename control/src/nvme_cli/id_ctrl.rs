//! `nvme id-ctrl`.

use nvme_spec::identify::IdentifyController;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Fields, lines, padded_text};

/// Every field by the name that nvme-cli gives it, which is that of the specification.
fn fields(id: &IdentifyController) -> Fields {
    let mut fields = Fields::default();
    identity(id, &mut fields);
    administration(id, &mut fields);
    capacity(id, &mut fields);
    commands(id, &mut fields);
    fabrics(id, &mut fields);
    fields
}

fn identity(id: &IdentifyController, fields: &mut Fields) {
    let [low, middle, high] = id.ieee.map(u32::from);
    fields.put("vid", id.vid.get());
    fields.put("ssvid", id.ssvid.get());
    fields.put("sn", padded_text(&id.sn));
    fields.put("mn", padded_text(&id.mn));
    fields.put("fr", padded_text(&id.fr));
    fields.put("rab", id.rab);
    fields.put("ieee", high << 16 | middle << 8 | low);
    fields.put("cmic", id.cmic);
    fields.put("mdts", id.mdts);
    fields.put("cntlid", id.cntlid.get());
    fields.put("ver", id.ver.get());
    fields.put("rtd3r", id.rtd3r.get());
    fields.put("rtd3e", id.rtd3e.get());
    fields.put("oaes", id.oaes.get());
    fields.put("ctratt", id.ctratt.get());
    fields.put("rrls", id.rrls.get());
    fields.put("bpcap", id.bpcap);
    fields.put("nssl", id.nssl.get());
    fields.put("plsi", id.plsi);
    fields.put("cntrltype", id.cntrltype.0);
    fields.put("fguid", Uuid::from_bytes(id.fguid).to_string());
    for (key, delay) in ["crdt1", "crdt2", "crdt3"].into_iter().zip(id.crdt_100ms) {
        fields.put(key, delay.get());
    }
    fields.put("crcap", id.crcap);
    fields.put("nvmsr", id.nvmsr);
    fields.put("vwci", id.vwci);
    fields.put("mec", id.mec);
}

fn administration(id: &IdentifyController, fields: &mut Fields) {
    fields.put("oacs", id.oacs.get());
    fields.put("acl", id.acl);
    fields.put("aerl", id.aerl);
    fields.put("frmw", id.frmw);
    fields.put("lpa", id.lpa);
    fields.put("elpe", id.elpe);
    fields.put("npss", id.npss);
    fields.put("avscc", id.avscc);
    fields.put("apsta", id.apsta);
    fields.put("wctemp", id.wctemp_kelvins.get());
    fields.put("cctemp", id.cctemp_kelvins.get());
    fields.put("mtfa", id.mtfa_100ms.get());
    fields.put("hmpre", id.hmpre.get());
    fields.put("hmmin", id.hmmin.get());
}

fn capacity(id: &IdentifyController, fields: &mut Fields) {
    fields.wide("tnvmcap", id.tnvmcap_bytes.get());
    fields.wide("unvmcap", id.unvmcap_bytes.get());
    fields.put("rpmbs", id.rpmbs.get());
    fields.put("edstt", id.edstt_minutes.get());
    fields.put("dsto", id.dsto);
    fields.put("fwug", id.fwug);
    fields.put("kas", id.kas_100ms.get());
    fields.put("hctma", id.hctma.get());
    fields.put("mntmt", id.mntmt.get());
    fields.put("mxtmt", id.mxtmt.get());
    fields.put("sanicap", id.sanicap.get());
    fields.put("hmminds", id.hmminds.get());
    fields.put("hmmaxd", id.hmmaxd.get());
    fields.put("nsetidmax", id.nsetidmax.get());
    fields.put("endgidmax", id.endgidmax.get());
    fields.put("anatt", id.anatt_seconds);
    fields.put("anacap", id.anacap);
    fields.put("anagrpmax", id.anagrpmax.get());
    fields.put("nanagrpid", id.nanagrpid.get());
    fields.put("pels", id.pels.get());
    fields.put("domainid", id.domid.get());
    fields.put("kpioc", id.kpioc);
    fields.put("mptfawr", id.mptfawr_100ms.get());
    fields.wide("megcap", id.megcap.get());
    fields.put("tmpthha", id.tmpthha);
    fields.put("cqt", id.cqt_ms.get());
}

fn commands(id: &IdentifyController, fields: &mut Fields) {
    fields.put("sqes", id.sqes);
    fields.put("cqes", id.cqes);
    fields.put("maxcmd", id.maxcmd.get());
    fields.put("nn", id.nn.get());
    fields.put("oncs", id.oncs.get());
    fields.put("fuses", id.fuses.get());
    fields.put("fna", id.fna);
    fields.put("vwc", id.vwc);
    fields.put("awun", id.awun.get());
    fields.put("awupf", id.awupf.get());
    fields.put("icsvscc", id.icsvscc);
    fields.put("nwpc", id.nwpc);
    fields.put("acwu", id.acwu.get());
    fields.put("ocfs", id.cdfs.get());
    fields.put("sgls", id.sgls.get());
    fields.put("mnan", id.mnan.get());
    fields.wide("maxdna", id.maxdna.get());
    fields.put("maxcna", id.maxcna.get());
    fields.put("oaqd", id.oaqd.get());
    fields.put("rhiri", id.rhiri);
    fields.put("hirt", id.hirt);
}

fn fabrics(id: &IdentifyController, fields: &mut Fields) {
    let subnqn = padded_text(&id.subnqn);
    if !subnqn.is_empty() {
        fields.put("subnqn", subnqn);
    }
    fields.put("ioccsz", id.ioccsz.get());
    fields.put("iorcsz", id.iorcsz.get());
    fields.put("icdoff", id.icdoff.get());
    fields.put("fcatt", id.fcatt);
    fields.put("msdbd", id.msdbd);
    fields.put("ofcs", id.ofcs.get());
    fields.put("dctype", id.dctype);
}

/// A power state (Base 5.1.13.2.1, Power State Descriptor).
fn power_state(state: &[u8; 32]) -> Value {
    let word = |at: usize| u16::from_le_bytes([state[at], state[at + 1]]);
    let double = |at: usize| u32::from_le_bytes([state[at], state[at + 1], state[at + 2], state[at + 3]]);
    json!({
        "max_power": word(0), "max_power_scale": state[3] & 1, "non-operational_state": state[3] >> 1 & 1,
        "entry_lat": double(4), "exit_lat": double(8),
        "read_tput": state[12] & 0x1F, "read_lat": state[13] & 0x1F,
        "write_tput": state[14] & 0x1F, "write_lat": state[15] & 0x1F,
        "idle_power": word(16), "idle_scale": state[18] >> 6,
        "active_power": word(20), "active_power_work": state[22] & 7, "active_scale": state[22] >> 6
    })
}

/// The object that `nvme id-ctrl -o json` prints.
pub fn id_ctrl(id: &IdentifyController) -> Value {
    let mut fields = fields(id);
    // NPSS is less one, and a controller may claim more than there is room for.
    let states = id.psd.iter().take(usize::from(id.npss) + 1).map(power_state);
    fields.put("psds", states.collect::<Vec<_>>());
    fields.into_value()
}

/// The lines that `nvme id-ctrl` prints: bit fields and identifiers in hexadecimal, the rest as numbers.
pub fn id_ctrl_text(id: &IdentifyController) -> String {
    const HEXADECIMAL: [&str; 27] = [
        "vid", "ssvid", "cmic", "cntlid", "ver", "rtd3r", "rtd3e", "oaes", "ctratt", "rrls", "bpcap", "oacs",
        "frmw", "lpa", "avscc", "apsta", "rpmbs", "hctma", "sanicap", "anacap", "sqes", "cqes", "oncs",
        "fuses", "fna", "vwc", "sgls",
    ];
    let field = |(key, value): (&'static str, Value)| {
        let shown = match (&value, value.as_u64()) {
            (_, Some(number)) if key == "ieee" => format!("{number:06x}"),
            (_, Some(number)) if HEXADECIMAL.contains(&key) => format!("{number:#x}"),
            (Value::String(words), _) => words.trim_end().to_owned(),
            _ => value.to_string(),
        };
        (key.to_owned(), shown)
    };
    let state = |(number, state): (usize, &[u8; 32])| {
        let state = power_state(state);
        let unit = if state["max_power_scale"] == 1 { "x 0.1 mW" } else { "x 0.01 W" };
        let operational = if state["non-operational_state"] == 1 { "non-operational" } else { "operational" };
        let shown = format!(
            "mp:{} {unit} {operational} enlat:{} exlat:{} rrt:{} rrl:{} rwt:{} rwl:{}",
            state["max_power"],
            state["entry_lat"],
            state["exit_lat"],
            state["read_tput"],
            state["read_lat"],
            state["write_tput"],
            state["write_lat"],
        );
        (format!("ps {number:4}"), shown)
    };
    let states = id.psd.iter().take(usize::from(id.npss) + 1).enumerate().map(state);
    "NVME Identify Controller:\n".to_owned() + &lines(10, fields(id).0.into_iter().map(field).chain(states))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identify() -> IdentifyController {
        let mut id = IdentifyController::default();
        id.vid.set(0x144d);
        id.ssvid.set(0x144d);
        id.sn = *b"S6P2NS0T123456      ";
        id.mn[..12].copy_from_slice(b"Example 1TB ");
        id.mn[12..].fill(b' ');
        id.fr = *b"2B2QEXM7";
        id.ieee = [0x38, 0x25, 0x00];
        id.mdts = 9;
        id.ver.set(0x0001_0300);
        id.tnvmcap_bytes.set(1_000_204_886_016);
        id.unvmcap_bytes.set(1 << 70);
        id.oncs.set(0x5f);
        id.npss = 1;
        id.psd[0][..2].copy_from_slice(&620_u16.to_le_bytes());
        id.psd[1][3] = 3;
        id.psd[1][4..8].copy_from_slice(&210_u32.to_le_bytes());
        id.psd[1][18] = 0x80;
        id.subnqn[..5].copy_from_slice(b"nqn.x");
        id
    }

    #[test]
    fn keys_and_numbers_are_those_of_nvme_cli() {
        let value = id_ctrl(&identify());
        // Identifiers as they come, padding included: that is what scripts compare with.
        assert_eq!((&value["vid"], &value["sn"]), (&json!(5197), &json!("S6P2NS0T123456      ")));
        assert_eq!(
            (&value["fr"], &value["ieee"], &value["mdts"]),
            (&json!("2B2QEXM7"), &json!(0x2538), &json!(9))
        );
        assert_eq!((&value["ver"], &value["oncs"]), (&json!(66304), &json!(95)));
        assert_eq!(value["tnvmcap"], json!(1_000_204_886_016_u64));
        assert_eq!(value["unvmcap"], json!("1180591620717411303424"));
        assert_eq!((&value["subnqn"], &value["fguid"]), (&json!("nqn.x"), &json!(Uuid::nil().to_string())));
        let states = value["psds"].as_array().unwrap();
        assert_eq!((states.len(), &states[0]["max_power"]), (2, &json!(620)));
        assert_eq!((&states[1]["non-operational_state"], &states[1]["entry_lat"]), (&json!(1), &json!(210)));
        assert_eq!((&states[1]["max_power_scale"], &states[1]["idle_scale"]), (&json!(1), &json!(2)));
        assert!(value.as_object().unwrap().len() > 90);
    }

    #[test]
    fn lines_are_for_people() {
        let text = id_ctrl_text(&identify());
        for line in [
            "vid       : 0x144d",
            "sn        : S6P2NS0T123456",
            "mn        : Example 1TB",
            "ieee      : 002538",
            "mdts      : 9",
            "ver       : 0x10300",
            "ps    1   : mp:0 x 0.1 mW non-operational enlat:210 exlat:0 rrt:0 rrl:0 rwt:0 rwl:0",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
        let mut hostile = IdentifyController { npss: 255, ..Default::default() };
        hostile.sn = [0xFF; 20];
        assert!(id_ctrl_text(&hostile).contains("sn        : ????????????????????"));
        assert_eq!(id_ctrl(&hostile)["psds"].as_array().unwrap().len(), 32);
    }
}
