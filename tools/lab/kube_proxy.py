"""ClusterIPs as kube-proxy's nftables mode makes them: verdict maps from VIP and port
to a chain per service port, which picks an endpoint by random number and DNATs to it. External IPs and node ports
(IPv4) lead there, too."""

_FAMILIES = {"ip": ("ipv4_addr", "ip"), "ip6": ("ipv6_addr", "ip6")}
_MASQUERADE = "0x4000"


def ruleset(services) -> str:
    """The whole of table kube-proxy for both families, as one atomic transaction for `nft -f`."""
    return "".join(_table(family, services) for family in _FAMILIES)


def _table(family: str, services) -> str:
    address_type, ip = _FAMILIES[family]
    chains, with_endpoints, without, node_ports = [], [], [], []
    for service in services:
        vip = service.vip if family == "ip" else service.vip6
        if vip is None:
            continue
        for port in service.ports:
            protocol = port.protocol.lower()
            addresses = [vip, *(service.external_ips if family == "ip" else [])]
            keys = [f"{address} . {protocol} . {port.port}" for address in addresses]
            name = f"{service.namespace}/{service.name}/{port.name}".replace("/", "-").replace(".", "-")
            targets = [
                (a, port.target_port)
                for a in (e.pod.ip if family == "ip" else e.pod.ip6 for e in service.usable_endpoints())
                if a is not None
            ]
            if not targets:
                without += [f"{key} : goto reject-chain" for key in keys]
                continue
            with_endpoints += [f"{key} : goto service-{name}" for key in keys]
            if port.node_port:
                node_ports.append(f"{protocol} . {port.node_port} : goto service-{name}")
            for i, (address, target_port) in enumerate(targets):
                destination = f"{address}:{target_port}" if family == "ip" else f"[{address}]:{target_port}"
                chains.append(
                    f"  chain endpoint-{name}-{i} {{\n"
                    f"    {ip} saddr {address} jump mark-for-masquerade\n"
                    f"    meta l4proto {protocol} dnat to {destination}\n  }}\n"
                )
            choice = ", ".join(f"{i} : goto endpoint-{name}-{i}" for i in range(len(targets)))
            chains.append(f"  chain service-{name} {{\n    numgen random mod {len(targets)} vmap {{ {choice} }}\n  }}\n")

    def verdicts(name, elements, address_type=f"{address_type} . "):
        body = f"    elements = {{ {', '.join(elements)} }}\n" if elements else ""
        return f"  map {name} {{\n    type {address_type}inet_proto . inet_service : verdict\n{body}  }}\n"

    # Added first, so that deleting it succeeds whether or not it was there.
    return (
        f"add table {family} kube-proxy\ndelete table {family} kube-proxy\ntable {family} kube-proxy {{\n"
        + "  chain mark-for-masquerade {\n"
        + f"    meta mark set meta mark or {_MASQUERADE}\n  }}\n"
        + "  chain reject-chain {\n    reject\n  }\n"
        + "".join(chains)
        + verdicts("service-ips", with_endpoints)
        + verdicts("no-endpoint-services", without)
        + verdicts("service-nodeports", node_ports, "")
        + f"  chain services {{\n    {ip} daddr . meta l4proto . th dport vmap @service-ips\n"
        + "    fib daddr type local meta l4proto . th dport vmap @service-nodeports\n  }\n"
        + f"  chain service-endpoints-check {{\n    {ip} daddr . meta l4proto . th dport vmap @no-endpoint-services\n  }}\n"
        + "  chain nat-prerouting {\n    type nat hook prerouting priority dstnat; policy accept;\n    jump services\n  }\n"
        + "  chain nat-output {\n    type nat hook output priority -100; policy accept;\n    jump services\n  }\n"
        + "  chain nat-postrouting {\n    type nat hook postrouting priority srcnat; policy accept;\n"
        + f"    meta mark & {_MASQUERADE} == {_MASQUERADE} masquerade fully-random\n  }}\n"
        + "".join(
            f"  chain filter-{hook} {{\n    type filter hook {hook} priority -110; policy accept;\n"
            "    ct state new jump service-endpoints-check\n  }\n"
            for hook in ("forward", "output")
        )
        + "}\n"
    )
