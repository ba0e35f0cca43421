"""What waits for the candidate: few images, of bounded size, in order."""

import torch

from models.structures import Boxes, Instances
from models.wanted import EVERYTHING
from service.inference.detector import PreparedImage
from service.repository.shadow.queue import MOST_BYTES, MOST_IMAGES, ShadowQueue, TakenImage

IMAGE = PreparedImage(torch.zeros(3, 4, 4, dtype=torch.uint8), 4, 4, (32, 32), "rgb")
NOTHING = Instances(
    (4, 4),
    pred_boxes=Boxes(torch.zeros(0, 4)),
    scores=torch.zeros(0),
    pred_classes=torch.zeros(0, dtype=torch.int64),
)


def taken(name: str, nbytes: int = 48) -> TakenImage:
    return TakenImage(name, "r1", IMAGE, nbytes, NOTHING, EVERYTHING, 0.1)


def names(queue: ShadowQueue) -> list[str]:
    found = []
    while (one := queue.next()) is not None:
        found.append(one.name)
    return found


def test_images_come_out_in_their_order() -> None:
    queue = ShadowQueue()
    assert all(queue.put(taken(name)) for name in "abc")
    assert names(queue) == ["a", "b", "c"]


def test_there_is_room_for_few_images() -> None:
    queue = ShadowQueue()
    put = [queue.put(taken(str(number))) for number in range(MOST_IMAGES + 2)]
    assert put == [True] * MOST_IMAGES + [False] * 2
    queue.next()
    assert queue.put(taken("later"))


def test_there_is_room_for_few_bytes() -> None:
    queue = ShadowQueue()
    assert queue.put(taken("large", MOST_BYTES - 10))
    assert not queue.put(taken("a", 11))
    assert queue.put(taken("b", 10))
    assert names(queue) == ["large", "b"]
    assert queue.put(taken("large", MOST_BYTES))


def test_a_closed_queue_is_empty_and_takes_no_more() -> None:
    queue = ShadowQueue()
    queue.put(taken("a"))
    queue.close()
    assert not queue.put(taken("b"))
    assert queue.next() is None
