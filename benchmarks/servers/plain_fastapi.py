"""A detector behind FastAPI as it is written by hand: one route, a lock around the model, a dict out.

python benchmarks/servers/plain_fastapi.py --port 8001 --detector mask_rcnn
"""

import argparse
import io
import threading
from typing import Any

import no_op
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image

app = FastAPI()
lock = threading.Lock()


def find_nothing(images: list[Image.Image]) -> list[dict[str, Any]]:
    return [{"boxes": no_op.BOXES, "scores": no_op.SCORES, "labels": no_op.CLASSES} for _ in images]


model: Any = find_nothing


@app.post("/predict")
def predict(images: UploadFile) -> dict[str, Any]:
    image = Image.open(io.BytesIO(images.file.read())).convert("RGB")
    with lock:
        return model([image])[0]


def main() -> None:
    global model
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--detector", choices=("no_op", "mask_rcnn"), default="mask_rcnn")
    arguments = parser.parse_args()
    if arguments.detector == "mask_rcnn":
        from torchvision_mask_rcnn import MaskRCNN

        model = MaskRCNN()
    uvicorn.run(app, port=arguments.port)


if __name__ == "__main__":
    main()
