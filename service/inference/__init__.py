"""From pixels to instances: the detector, the queue in front of it, the threads around it."""
