"""Ways of ours to people and machines, beside Apprise's: SIP messages and calls, syslog, SNMP traps."""
