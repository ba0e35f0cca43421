"""Many images as one job: taken in at once, predicted when there is room, told as lines of JSON.

The jobs know nothing of a protocol: they are given images (:mod:`service.batches.sources`) and a function
that predicts one of them. Only :mod:`service.batches.receiving` reads a request.
"""
