"""A function of CVAT that hands its pictures on to detserve: the standard library is all it needs.

``function.yaml`` beside it comes from the server: it knows the labels. See ``../README.md``.
"""

import json
import os
import urllib.error
import urllib.parse
import urllib.request

TIMEOUT_S = 55  # function.yaml gives an event 60


def init_context(context):
    """Read where the server is, once for each worker."""
    query = {"shape": os.environ.get("DETSERVE_SHAPE", "rectangle")}
    if os.environ.get("DETSERVE_MODEL"):
        query["model"] = os.environ["DETSERVE_MODEL"]
    base = os.environ["DETSERVE_URL"].rstrip("/")
    context.user_data.url = f"{base}/cvat/?{urllib.parse.urlencode(query)}"
    context.user_data.headers = {"Content-Type": "application/json"}
    if os.environ.get("DETSERVE_TOKEN"):
        context.user_data.headers["Authorization"] = f"Bearer {os.environ['DETSERVE_TOKEN']}"


def handler(context, event):
    """Answer one picture; an error keeps detserve's status and sentence."""
    body = event.body if isinstance(event.body, bytes) else json.dumps(event.body).encode()
    request = urllib.request.Request(
        context.user_data.url, data=body, headers=context.user_data.headers
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            status, answer = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, answer = error.code, error.read()
    return context.Response(
        body=answer.decode(), headers={}, content_type="application/json", status_code=status
    )
