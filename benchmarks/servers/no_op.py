"""What a detector that costs nothing answers, the same behind every server."""

BOXES = [[1.0, 2.0, 30.0, 31.0], [4.0, 4.0, 20.0, 28.0], [8.0, 0.0, 16.0, 12.0]]
SCORES = [0.9, 0.6, 0.3]
CLASSES = [0, 1, 2]
