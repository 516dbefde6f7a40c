# sg_inq and sg_vpd understand every page that the unit lists, and agree on who it is.
. /vm/lib.sh

configure <<'TOML'
[[volume]]
name = "disk"
size = "64MiB"
uuid = "6f1c6d4e-9f0a-4c3a-8f6b-2f6f3f2b7f11"
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "disk" }
TOML
start_node
start_initiator
login
device=$(disk 0)
inquiry=$(sg_inq "$device")
expect "the vendor" "$inquiry" 'Vendor identification: *VEGA|Vendor identification: *Vega'
expect "the device type" "$inquiry" 'PDT=0'
expect "the standard" "$inquiry" 'version=0x0[67]|\[SPC-[45]\]'
pages=$(sg_vpd --page=sv "$device")
say "$pages"
for page in sv sn di ei bl bdc lbpv; do
    expect "page $page is listed" "$pages" "\\[$page\\]"
done
for page in $(printf '%s\n' "$pages" | sed -n 's/.*\[\([a-z]*\)\]$/\1/p'); do
    sg_vpd --page="$page" "$device" >/tmp/page 2>&1 || die "page $page: $(cat /tmp/page)"
    [ -s /tmp/page ] || die "page $page says nothing"
done
identification=$(sg_vpd --page=di "$device")
expect "an NAA or EUI identifier of the unit" "$identification" 'designator type: (NAA|EUI-64 based)'
expect "the target's name" "$identification" 'iqn.2026-11.io.vega:vm'
limits=$(sg_vpd --page=bl "$device")
expect "unmap is limited" "$limits" 'Maximum unmap LBA count: [1-9]'
expect "unmap takes descriptors" "$limits" 'Maximum unmap block descriptor count: [1-9]'
expect "compare and write" "$limits" 'Maximum compare and write length: [1-9]'
provisioning=$(sg_vpd --page=lbpv "$device")
expect "unmap" "$provisioning" 'LBPU\): 1|LBPU=1'
expect "unmapped blocks are zeros" "$provisioning" 'LBPRZ\): [1-7]|LBPRZ=[1-7]'
expect "thin" "$provisioning" 'thin provisioned|Provisioning type: 2'
logout
stop_node
