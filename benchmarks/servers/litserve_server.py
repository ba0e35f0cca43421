"""The same detector behind LitServe, written as LitServe's documentation shows it.

.venv-bench/bin/python benchmarks/servers/litserve_server.py --port 8002 --detector mask_rcnn
"""

import argparse
import io
from typing import Any

import litserve as ls
import no_op
from fastapi import Request
from PIL import Image


class NoOpAPI(ls.LitAPI):
    """Three boxes for every picture, which is opened as a detector would."""

    def setup(self, device: str) -> None:
        """Nothing to load."""

    def decode_request(self, request: Request) -> Image.Image:
        return Image.open(io.BytesIO(request["images"].file.read())).convert("RGB")

    def predict(self, images: list[Image.Image]) -> list[dict[str, Any]]:
        return [
            {"boxes": no_op.BOXES, "scores": no_op.SCORES, "labels": no_op.CLASSES} for _ in images
        ]

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def batch(self, inputs: list[Image.Image]) -> list[Image.Image]:
        return inputs

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


class MaskRCNNAPI(NoOpAPI):
    """torchvision's Mask R-CNN, eager, the images of a batch in one call."""

    def setup(self, device: str) -> None:
        from torchvision_mask_rcnn import MaskRCNN

        self.model = MaskRCNN(device)

    def predict(self, images: list[Image.Image]) -> list[dict[str, Any]]:
        return self.model(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8002)
    parser.add_argument("--detector", choices=("no_op", "mask_rcnn"), default="mask_rcnn")
    parser.add_argument("--max-batch-size", type=int, default=8)
    parser.add_argument("--batch-timeout", type=float, default=0.01)
    parser.add_argument("--fast-queue", action="store_true", help="LitServe's ZeroMQ transport")
    arguments = parser.parse_args()
    kind = NoOpAPI if arguments.detector == "no_op" else MaskRCNNAPI
    api = kind(max_batch_size=arguments.max_batch_size, batch_timeout=arguments.batch_timeout)
    server = ls.LitServer(api, accelerator="cpu", fast_queue=arguments.fast_queue)
    server.run(port=arguments.port, host="127.0.0.1", generate_client_file=False)


if __name__ == "__main__":
    main()
