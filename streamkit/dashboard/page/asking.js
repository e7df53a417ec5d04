// How the page asks. Every address is relative to where the page is, so it works behind any prefix.

export class Refused extends Error {}
export class Lost extends Error {}

const PATIENCE_MS = 10000;

async function answer(path, options) {
  let response;
  try {
    response = await fetch(path, { ...options, signal: AbortSignal.timeout(PATIENCE_MS), redirect: "error" });
  } catch {
    throw new Lost("nobody answers");
  }
  let content;
  try {
    content = await response.json();
  } catch {
    throw new Lost(`the answer is none (${response.status})`);
  }
  if (!response.ok) throw new Refused(content.error ?? `refused (${response.status})`);
  return content;
}

export function ask(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== null));
  return answer(query.size ? `${path}?${query}` : path, { cache: "no-store" });
}

export function change(path, content) {
  return answer(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Streamkit": "1" },
    body: JSON.stringify(content),
  });
}

let gone = 0;

// A sentence at the edge of the page, for some seconds.
export function tell(text, isBad = false) {
  const said = document.getElementById("said");
  said.textContent = text;
  said.className = isBad ? "said shown bad" : "said shown";
  clearTimeout(gone);
  gone = setTimeout(() => (said.className = "said"), isBad ? 12000 : 5000);
}
