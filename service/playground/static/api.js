// Calls of the server: addresses relative to this file, so that a path prefix of a proxy is kept.

const BASE = new URL("../", import.meta.url);
const TOKEN_KEY = "detserve-token";

/** What went wrong with a call, in a sentence for people. */
export class CallError extends Error {
  constructor(message, { status = 0, code = "", requestId = "", details = {}, retryAfter = "" } = {}) {
    super(message);
    Object.assign(this, { status, code, requestId, details, retryAfter });
  }
}

/** The inference token; kept until the tab is closed. */
export const token = {
  get() {
    try {
      return sessionStorage.getItem(TOKEN_KEY) ?? "";
    } catch {
      return "";
    }
  },
  set(value) {
    if (value) sessionStorage.setItem(TOKEN_KEY, value);
    else sessionStorage.removeItem(TOKEN_KEY);
  },
};

/** The address of a route or file of the server. */
export const address = (path, query = {}) => {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  return url.href;
};

async function call(path, { query, ...options } = {}) {
  const headers = token.get() ? { Authorization: `Bearer ${token.get()}` } : {};
  let response;
  try {
    response = await fetch(address(path, query), { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new CallError("The server cannot be reached. Is it still running?");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const requestId = response.headers.get("X-Request-ID") ?? "";
  const retryAfter = response.headers.get("Retry-After") ?? "";
  const facts = { status: response.status, requestId, retryAfter };
  try {
    const { error } = await response.json();
    return new CallError(error.message, { ...facts, code: error.code, details: error.details ?? {} });
  } catch {
    // A proxy's answer, not the server's.
    return new CallError(`The answer was ${response.status} ${response.statusText}.`.replace(" .", "."), facts);
  }
}

/** GET /models. */
export const getModels = async () => (await call("models")).json();

/** GET /metrics, as text. */
export const getMetrics = async (signal) => (await call("metrics", { signal })).text();

/** Names of the sample pictures. */
export const getSamples = async () => (await (await call("playground/samples.json")).json()).samples;

/** One sample picture as a file. */
export async function getSample(name) {
  const blob = await (await call(`playground/samples/${encodeURIComponent(name)}`)).blob();
  return new File([blob], name, { type: blob.type });
}

/**
 * POST /predict with one picture.
 * @returns {{answer: Object, seconds: number}} the answer, and the time until it was here
 * @throws {CallError} also where the answer has an error in the place of this picture's instances
 */
export async function predict(file, name, query, signal) {
  const body = new FormData();
  body.append("images", file, name);
  const begin = performance.now();
  const response = await call("predict", { method: "POST", query, body, signal });
  const answer = await response.json();
  const seconds = (performance.now() - begin) / 1000;
  const problem = answer.predictions[0].error;
  if (problem) throw new CallError(problem.message, { ...problem, requestId: answer.request_id });
  return { answer, seconds };
}
