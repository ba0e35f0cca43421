// The request on the screen, as curl and as Python.

import { address, token } from "./api.js";

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Addresses without the percent signs that a shell or a reader does not need. */
const plain = (url) => url.replaceAll("%2C", ",");

/** A shell command. A token stays a variable: it must not end up in a history or a chat. */
export function curl(name, query) {
  const lines = [`curl -F images=@${quoted(name)}`];
  if (token.get()) lines.push(`-H "Authorization: Bearer $DETSERVE_TOKEN"`);
  lines.push(quoted(plain(address("predict", query))));
  return lines.join(" \\\n     ");
}

/** A Python script, with requests. */
export function python(name, query) {
  const text = (value) => JSON.stringify(String(value));
  const options = Object.entries(query)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([key, value]) => `${text(key)}: ${typeof value === "number" ? value : text(value)}`);
  const secret = token.get() ? '\n    headers={"Authorization": f"Bearer {os.environ[\'DETSERVE_TOKEN\']}"},' : "";
  return `${token.get() ? "import os\n\n" : ""}import requests

response = requests.post(
    ${text(address("predict"))},
    params={${options.join(", ")}},
    files={"images": open(${text(name)}, "rb")},${secret}
    timeout=60,
)
answer = response.json()
if not response.ok:
    raise SystemExit(answer["error"]["message"])
found = answer["predictions"][0]["instances"]
for name, score, box in zip(found["class_names"], found["scores"], found["pred_boxes"]):
    print(name, round(score, 3), box)`;
}
