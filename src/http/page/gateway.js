// Asking the gateway. The browser's certificate is the credential; the header says that this page asks, which a page of
// another site cannot send. Every answer comes from this origin: nothing is asked of anybody else.

export class Refused extends Error {}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
      ...options,
      headers: { "sallyport-page": "1", ...options.headers },
    });
  } catch {
    throw new Error("The gateway does not answer. Is it running, and does your browser still have your certificate?");
  }
  if (answer.ok) return answer;
  if (answer.status === 403) throw new Refused("You may not see this. The refusal is an entry of the log.");
  if (answer.status === 404) return null;
  const said = await answer.json().catch(() => ({}));
  throw new Error(`The gateway says: ${said.error_description ?? answer.statusText} (${answer.status})`);
}

/** A file of the log as bytes; null where there is none. */
export async function file(name) {
  const answer = await ask(`/log/${name}`);
  return answer && new Uint8Array(await answer.arrayBuffer());
}

export async function text(path) {
  const answer = await ask(path);
  if (!answer) throw new Error(`${path} is not there`);
  return answer.text();
}

/** JSON, or null for 404. */
export async function json(path) {
  return (await ask(path))?.json() ?? null;
}

export async function post(path, body) {
  const headers = { "content-type": "application/json" };
  const answer = await ask(path, { method: "POST", headers, body: JSON.stringify(body) });
  return answer?.json() ?? null;
}
