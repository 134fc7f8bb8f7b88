"""The DHCPv4 options that Kea knows by name (RFC 2132 and later), and which of them are addresses.

From the option definitions that Kea 2.2.0 to 3.0 share; what a server computes for each answer
itself (message type, lease time, relay information and their like) is left out on purpose.
"""

from __future__ import annotations

from typing import Final

ADDRESSES: Final = frozenset(
    """
    routers time-servers name-servers domain-name-servers log-servers cookie-servers lpr-servers
    impress-servers resource-location-servers swap-server broadcast-address
    router-solicitation-address nis-servers ntp-servers netbios-name-servers netbios-dd-server
    font-servers x-display-manager nisplus-servers mobile-ip-home-agent smtp-server pop-server
    nntp-server www-server finger-server irc-server streettalk-server
    streettalk-directory-assistance-server nds-servers bcms-controller-address
    netinfo-server-address pana-agent capwap-ac-v4 subnet-mask
    """.split()  # noqa: SIM905  (one name per line would be four screens)
)
"""Options whose value is one or several IPv4 addresses, separated by commas."""

OTHERS: Final = frozenset(
    """
    time-offset host-name boot-size merit-dump domain-name root-path extensions-path ip-forwarding
    non-local-source-routing policy-filter max-dgram-reassembly default-ip-ttl
    path-mtu-aging-timeout path-mtu-plateau-table interface-mtu all-subnets-local
    perform-mask-discovery mask-supplier router-discovery static-routes trailer-encapsulation
    arp-cache-timeout ieee802-3-encapsulation default-tcp-ttl tcp-keepalive-interval
    tcp-keepalive-garbage nis-domain vendor-encapsulated-options netbios-node-type netbios-scope
    vendor-class-identifier nwip-domain-name nwip-suboptions nisplus-domain-name tftp-server-name
    boot-file-name slp-directory-agent slp-service-scope nds-tree-name nds-context
    bcms-controller-names uap-servers geoconf-civic pcode tcode netinfo-server-tag
    auto-config name-service-search domain-search vivco-suboptions vivso-suboptions v4-lost
    sip-ua-cs-domains rdnss-selection v4-portparams v4-captive-portal option-6rd v4-access-domain
    """.split()  # noqa: SIM905
)

KNOWN: Final = ADDRESSES | OTHERS
