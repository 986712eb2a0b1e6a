// Times in queries: a day or a moment, in UTC, at an offset or in a named zone, or counted from now, with or without quotes.
//   '2026-11-01' · '2026-11-01T12:00:00+02:00' · '2026-11-01 12:00 Europe/Berlin' · now-7d · now

const unitMs: Record<string, number> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 };
const relative = /^now(?:\s*([+-])\s*(\d{1,9})\s*([smhdw]))?$/i;
const absolute =
  /^(\d{4})-(\d\d)(?:-(\d\d))?(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(?:\s*(Z|[+-]\d\d:?\d\d)|\s+([A-Za-z][A-Za-z0-9_+/-]*))?$/i;

export const timesAre =
  "a time, such as '2026-11-01', '2026-11-01T12:00:00Z', '2026-11-01 12:00 Europe/Berlin' or now-7d";

/** As the database holds times; undefined for what is none. */
export function timeFrom(text: string, now: number): string | undefined {
  const ms = relativeMs(text.trim(), now) ?? absoluteMs(text.trim());
  const time = ms === undefined ? undefined : new Date(ms);
  // Years of other lengths would not compare as text.
  return time && /^\d{4}-/.test(isoOf(time)) ? isoOf(time) : undefined;
}

function isoOf(time: Date): string {
  return Number.isNaN(time.getTime()) ? '' : time.toISOString();
}

function relativeMs(text: string, now: number): number | undefined {
  const match = relative.exec(text);
  if (!match) return undefined;
  const [, sign, count, unit] = match;
  if (unit === undefined) return now;
  return now + (sign === '-' ? -1 : 1) * Number(count) * unitMs[unit.toLowerCase()]!;
}

function absoluteMs(text: string): number | undefined {
  const match = absolute.exec(text);
  if (!match) return undefined;
  const [, year, month, day = '01', hour = '00', minute = '00', second = '00', fraction = '', offset, zone] = match;
  const utc = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}.${fraction.padEnd(3, '0').slice(0, 3)}Z`);
  // `2026-02-31` is no day, though Date would make one of it.
  if (Number.isNaN(utc) || new Date(utc).getUTCDate() !== Number(day) + (hour === '24' ? 1 : 0)) return undefined;
  if (zone !== undefined && !/^(Z|UTC)$/i.test(zone)) return inZone(utc, zone);
  if (offset === undefined || /^z$/i.test(offset)) return utc;
  const [hours, minutes] = [Number(offset.slice(1, 3)), Number(offset.slice(-2))];
  if (hours > 23 || minutes > 59) return undefined;
  return utc - (offset[0] === '-' ? -1 : 1) * (hours * 60 + minutes) * 60_000;
}

/**
 * When a clock on the wall of that zone shows what `wall` would be in UTC. An hour that comes twice means its first coming; one that
 * is left out means as long after the change as it is late (02:30 is 03:30 then).
 */
function inZone(wall: number, zone: string): number | undefined {
  const offset = offsetsIn(zone);
  if (!offset) return undefined;
  const before = offset(wall - 86_400_000);
  const after = offset(wall + 86_400_000);
  for (const candidate of [wall - before, wall - after]) if (candidate + offset(candidate) === wall) return candidate;
  return wall - before;
}

/** How far the clocks of a zone are ahead of UTC at a moment. */
function offsetsIn(zone: string): ((at: number) => number) | undefined {
  let format: Intl.DateTimeFormat;
  try {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      calendar: 'iso8601',
      hourCycle: 'h23',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      minute: '2-digit',
      second: '2-digit',
    });
  } catch {
    return undefined; // no such zone
  }
  return (at) => {
    const shown = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, Number(value)]));
    const wall = Date.UTC(shown.year!, shown.month! - 1, shown.day!, shown.hour!, shown.minute!, shown.second!);
    return wall - Math.floor(at / 1_000) * 1_000;
  };
}
