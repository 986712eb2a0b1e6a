// A caller that goes on asking a web service while something happens to it: every request must be answered, and rightly.
import { setTimeout as pause } from 'node:timers/promises';

export interface Tally {
  sent: number;
  /** What was lost or wrong, in words. */
  wrong: string[];
  /** How many answers each of the known predictions got, by its place. */
  byPrediction: number[];
}

export interface Caller {
  url: string;
  key: string;
  data: string;
}

const everyMs = 15;
const most = 4_000;

/** Asks steadily, two at a time, until `happening` has settled and for `after` more requests. */
export async function askWhile(
  caller: Caller,
  happening: Promise<unknown>,
  known: readonly ((answer: unknown) => boolean)[],
  after = 20,
): Promise<Tally> {
  const tally: Tally = { sent: 0, wrong: [], byPrediction: known.map(() => 0) };
  let left = Number.POSITIVE_INFINITY;
  const settled = happening.then(
    () => {},
    () => {},
  );
  void settled.then(() => {
    left = after;
  });
  const worker = async () => {
    while (left-- > 0 && tally.sent < most) {
      tally.sent++;
      await ask(caller, known, tally);
      await pause(everyMs);
    }
  };
  await Promise.all([worker(), worker()]);
  await settled;
  return tally;
}

async function score({ url, key, data }: Caller): Promise<unknown> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
    body: data,
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.status} ${text.slice(0, 200)}`);
  return JSON.parse(text);
}

async function ask(caller: Caller, known: readonly ((answer: unknown) => boolean)[], tally: Tally): Promise<void> {
  try {
    const answer = await score(caller);
    const which = known.findIndex((is) => is(answer));
    if (which < 0) tally.wrong.push(`an answer of neither version: ${JSON.stringify(answer)}`);
    else tally.byPrediction[which]!++;
  } catch (error) {
    tally.wrong.push((error as Error).message);
  }
}
