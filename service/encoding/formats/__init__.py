"""The forms of a whole answer, one file each; which one a request gets is settled in ``negotiation``."""
