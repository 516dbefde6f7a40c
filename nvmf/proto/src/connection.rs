//! Initializing a connection: ICReq and ICResp (TCP 3.4.1).

use nvme_spec::tcp::{
    ADMIN_IN_CAPSULE_BYTES, CommonHeader, DGST_DATA, DGST_HEADER, IcReq, IcResp, MAXH2CDATA_MIN, PDA_MAX,
    PDU_FORMAT_VERSION, PduType,
};
use zerocopy::little_endian::{U16, U32};

use crate::error::Violation;
use crate::limits::{
    C2H_DATA_BYTES_DEFAULT, COMMANDS_MAX, H2C_DATA_BYTES_DEFAULT, R2TS_PER_COMMAND_MAX,
    TX_BACKLOG_BYTES_DEFAULT,
};

/// Byte offsets of the fields of ICReq and ICResp, for reports.
const PFV: u32 = 8;
const ALIGNMENT: u32 = 10;
const DGST: u32 = 11;
const MAXH2CDATA: u32 = 12;

/// What a target offers on its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetConfig {
    /// Use header digests when the host asks for them.
    pub header_digest: bool,
    /// Use data digests when the host asks for them.
    pub data_digest: bool,
    /// CPDA: alignment of data in capsules and H2CData, 0-based in dwords (0..=31).
    pub cpda: u8,
    /// MAXH2CDATA: most data of one H2CData in bytes; a multiple of 4, at least 4096.
    pub h2c_data_bytes_max: u32,
    /// Most data of one C2HData in bytes; a multiple of 4.
    pub c2h_data_bytes_max: u32,
    /// Most bytes that one R2T asks for; a multiple of 4.
    pub r2t_bytes_max: u32,
    /// R2Ts of one command in flight, if the host takes as many (1..=4).
    pub r2ts_max: u8,
    /// A queue with more bytes than this to send takes no new command.
    pub tx_backlog_bytes: usize,
}

impl Default for TargetConfig {
    fn default() -> Self {
        Self {
            header_digest: true,
            data_digest: true,
            cpda: 0,
            h2c_data_bytes_max: H2C_DATA_BYTES_DEFAULT,
            c2h_data_bytes_max: C2H_DATA_BYTES_DEFAULT,
            r2t_bytes_max: H2C_DATA_BYTES_DEFAULT,
            r2ts_max: 1,
            tx_backlog_bytes: TX_BACKLOG_BYTES_DEFAULT,
        }
    }
}

impl TargetConfig {
    pub(crate) fn check(&self) {
        assert!(self.cpda <= PDA_MAX, "the configuration was checked");
        assert!(self.h2c_data_bytes_max >= MAXH2CDATA_MIN && self.h2c_data_bytes_max.is_multiple_of(4));
        assert!(self.c2h_data_bytes_max > 0 && self.c2h_data_bytes_max.is_multiple_of(4));
        assert!(self.r2t_bytes_max > 0 && self.r2t_bytes_max.is_multiple_of(4));
        assert!((1..=R2TS_PER_COMMAND_MAX).contains(&usize::from(self.r2ts_max)));
    }
}

/// What a host asks for on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Ask for header digests.
    pub header_digest: bool,
    /// Ask for data digests.
    pub data_digest: bool,
    /// HPDA: alignment of data in C2HData, 0-based in dwords (0..=31).
    pub hpda: u8,
    /// R2Ts of one command that may be in flight (MAXR2T + 1), at least 1.
    pub r2ts_max: u32,
    /// Commands in flight at once (1..=1024): at most the entries of the submission queue that Connect will name.
    pub commands_max: u16,
    /// Write data up to this many bytes is sent in the command's capsule. Until [`crate::HostQueue::set_in_capsule_bytes`]
    /// says otherwise: what every controller takes for admin and Fabrics commands.
    pub in_capsule_bytes: u32,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            hpda: 0,
            r2ts_max: 1,
            commands_max: 128,
            in_capsule_bytes: ADMIN_IN_CAPSULE_BYTES,
        }
    }
}

impl HostConfig {
    pub(crate) fn check(&self) {
        assert!(self.hpda <= PDA_MAX, "the configuration was checked");
        assert!(self.r2ts_max > 0 && (1..=COMMANDS_MAX).contains(&usize::from(self.commands_max)));
    }
}

/// What both ends agreed on, as one end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Headers are followed by a digest.
    pub header_digest: bool,
    /// Data is followed by a digest.
    pub data_digest: bool,
    /// Alignment in bytes of data in the PDUs that we send.
    pub send_alignment_bytes: u8,
    /// Alignment in bytes of data in the PDUs that we receive.
    pub receive_alignment_bytes: u8,
    /// R2Ts of one command in flight that the host takes (MAXR2T + 1, saturating).
    pub r2ts_max: u32,
    /// Most data in one H2CData (MAXH2CDATA), in bytes.
    pub h2c_data_bytes_max: u32,
}

const fn alignment_bytes(field: u8) -> u8 {
    (field + 1) * 4
}

fn ic_header(pdu_type: PduType, size: usize) -> CommonHeader {
    CommonHeader { pdu_type, flags: 0, hlen: size as u8, pdo: 0, plen: U32::new(size as u32) }
}

/// The target's side: checks an ICReq and gives the answer. The common header was checked before.
pub(crate) fn answer(request: &IcReq, config: &TargetConfig) -> Result<(Negotiated, IcResp), Violation> {
    if request.pfv.get() != PDU_FORMAT_VERSION {
        return Err(Violation::UnsupportedParameter(PFV));
    }
    if request.hpda > PDA_MAX {
        return Err(Violation::Field(ALIGNMENT));
    }
    let header_digest = config.header_digest && request.dgst & DGST_HEADER != 0;
    let data_digest = config.data_digest && request.dgst & DGST_DATA != 0;
    let response = IcResp {
        ch: ic_header(PduType::IC_RESP, size_of::<IcResp>()),
        pfv: U16::new(PDU_FORMAT_VERSION),
        cpda: config.cpda,
        dgst: dgst(header_digest, data_digest),
        maxh2cdata: U32::new(config.h2c_data_bytes_max),
        reserved16: [0; 112],
    };
    let negotiated = Negotiated {
        header_digest,
        data_digest,
        send_alignment_bytes: alignment_bytes(request.hpda),
        receive_alignment_bytes: alignment_bytes(config.cpda),
        r2ts_max: request.maxr2t.get().saturating_add(1),
        h2c_data_bytes_max: config.h2c_data_bytes_max,
    };
    Ok((negotiated, response))
}

fn dgst(header_digest: bool, data_digest: bool) -> u8 {
    let header = if header_digest { DGST_HEADER } else { 0 };
    header | if data_digest { DGST_DATA } else { 0 }
}

/// The host's ICReq.
pub(crate) fn request(config: &HostConfig) -> IcReq {
    IcReq {
        ch: ic_header(PduType::IC_REQ, size_of::<IcReq>()),
        pfv: U16::new(PDU_FORMAT_VERSION),
        hpda: config.hpda,
        dgst: dgst(config.header_digest, config.data_digest),
        maxr2t: U32::new(config.r2ts_max - 1),
        reserved16: [0; 112],
    }
}

/// The host's side: checks the ICResp. Digests that were asked for may be declined; those not asked for may not be given.
pub(crate) fn accept(response: &IcResp, config: &HostConfig) -> Result<Negotiated, Violation> {
    if response.pfv.get() != PDU_FORMAT_VERSION {
        return Err(Violation::UnsupportedParameter(PFV));
    }
    if response.cpda > PDA_MAX {
        return Err(Violation::Field(ALIGNMENT));
    }
    let header_digest = response.dgst & DGST_HEADER != 0;
    let data_digest = response.dgst & DGST_DATA != 0;
    if (header_digest && !config.header_digest) || (data_digest && !config.data_digest) {
        return Err(Violation::Field(DGST));
    }
    let h2c_data_bytes_max = response.maxh2cdata.get();
    if h2c_data_bytes_max < MAXH2CDATA_MIN || !h2c_data_bytes_max.is_multiple_of(4) {
        return Err(Violation::Field(MAXH2CDATA));
    }
    Ok(Negotiated {
        header_digest,
        data_digest,
        send_alignment_bytes: alignment_bytes(response.cpda),
        receive_alignment_bytes: alignment_bytes(config.hpda),
        r2ts_max: config.r2ts_max,
        h2c_data_bytes_max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_agree() {
        for bits in 0..16u8 {
            let host = HostConfig {
                header_digest: bits & 1 != 0,
                data_digest: bits & 2 != 0,
                hpda: 31,
                r2ts_max: 3,
                ..HostConfig::default()
            };
            let target = TargetConfig {
                header_digest: bits & 4 != 0,
                data_digest: bits & 8 != 0,
                cpda: 1,
                ..TargetConfig::default()
            };
            let (at_target, response) = answer(&request(&host), &target).unwrap();
            let at_host = accept(&response, &host).unwrap();
            assert_eq!(at_host.header_digest, host.header_digest && target.header_digest);
            assert_eq!(at_host.data_digest, host.data_digest && target.data_digest);
            assert_eq!((at_target.send_alignment_bytes, at_target.receive_alignment_bytes), (128, 8));
            let mirrored = Negotiated {
                send_alignment_bytes: at_host.receive_alignment_bytes,
                receive_alignment_bytes: at_host.send_alignment_bytes,
                ..at_host
            };
            assert_eq!(mirrored, at_target);
        }
    }

    #[test]
    fn requests_and_responses_out_of_bounds_are_refused_with_their_field() {
        let config = TargetConfig::default();
        let good = request(&HostConfig::default());
        let bad = IcReq { pfv: U16::new(1), ..good };
        assert_eq!(answer(&bad, &config), Err(Violation::UnsupportedParameter(8)));
        assert_eq!(answer(&IcReq { hpda: 32, ..good }, &config), Err(Violation::Field(10)));
        // The largest MAXR2T does not wrap, and reserved bits are nobody's business.
        let odd = IcReq { maxr2t: U32::new(u32::MAX), dgst: 0xfc, reserved16: [9; 112], ..good };
        assert_eq!(answer(&odd, &config).unwrap().0.r2ts_max, u32::MAX);

        let host = HostConfig::default();
        let good = answer(&good, &config).unwrap().1;
        let bad = IcResp { pfv: U16::new(2), ..good };
        assert_eq!(accept(&bad, &host), Err(Violation::UnsupportedParameter(8)));
        assert_eq!(accept(&IcResp { cpda: 32, ..good }, &host), Err(Violation::Field(10)));
        assert_eq!(accept(&IcResp { dgst: 1, ..good }, &host), Err(Violation::Field(11)));
        assert_eq!(accept(&IcResp { dgst: 2, ..good }, &host), Err(Violation::Field(11)));
        for bytes in [0, 4092, 4098, u32::MAX] {
            let bad = IcResp { maxh2cdata: U32::new(bytes), ..good };
            assert_eq!(accept(&bad, &host), Err(Violation::Field(12)), "{bytes}");
        }
    }
}
