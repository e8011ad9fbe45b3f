"""Find the speakers whom a recogniser serves badly, and repair it: discovery, statistics,
mitigation, report."""
