"""SIP messages as they pass, for those who want to see them: live, in pcap files, and by HEP."""
