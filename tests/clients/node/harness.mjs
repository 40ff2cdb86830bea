// Runs the named checks of one client. Where the gateway and the simulator listen stands in
// OPENAI_BASE_URL, OPENAI_API_KEY and SIMULATOR_URL. Each outcome is one line of JSON.

export const BASE_URL = process.env.OPENAI_BASE_URL;
export const API_KEY = process.env.OPENAI_API_KEY;
export const FLASH_25 = 'gemini-2.5-flash';
export const FLASH_3 = 'gemini-3-flash-preview';
export const FLASH_38 = 'gemini-3.8-flash';
export const EMBEDDING = 'gemini-embedding-001';
export const SENTINEL = 'skip_thought_signature_validator';
export const WEATHER_CALL = '[[sim call=get_weather args="{\\"city\\":\\"Oslo\\"}"]]';

const SIMULATOR_URL = process.env.SIMULATOR_URL;
const CHECK_MILLISECONDS_MAX = 30_000;
const checks = new Map();

// check registers a check under a name that begins with its number.
export function check(name, run) {
  if (checks.has(name)) throw new Error(`two checks are named ${name}`);
  checks.set(name, run);
}

async function control(method, path, body) {
  const answer = await fetch(`${SIMULATOR_URL}/control/${path}`, {
    method,
    body: body && JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

// forget drops the simulator's requests and faults.
export async function forget() {
  await control('DELETE', 'requests');
  await control('DELETE', 'faults');
}

// fault changes the simulator's next answer.
export const fault = (orders) => control('POST', 'faults', orders);

// bodies returns what Gemini was asked, in order, once all is answered.
export async function bodies() {
  const { requests } = await control('GET', 'requests?ended=true&timeout=30');
  return requests.map((entry) => entry.body);
}

// parts returns the parts of a request to Gemini that have a member, in their order.
export const parts = (body, kind) =>
  body.contents.flatMap((content) => content.parts).filter((part) => kind in part);

// within ends a check whose client never comes to an end.
async function within(milliseconds, running) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('the client never came to an end')), milliseconds);
  });
  try {
    await Promise.race([running, late]);
  } finally {
    clearTimeout(timer);
  }
}

// runAll runs every registered check and reports each.
export async function runAll() {
  for (const [name, run] of checks) {
    let detail = '';
    try {
      await forget();
      await within(CHECK_MILLISECONDS_MAX, run());
    } catch (error) {
      detail = `${error?.stack ?? error}${error?.cause ? `\ncause: ${error.cause.stack}` : ''}`;
    }
    process.stdout.write(`${JSON.stringify({ name, ok: detail === '', detail })}\n`);
  }
}
