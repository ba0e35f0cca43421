"""From instances to what a client reads: JSON and pictures."""
