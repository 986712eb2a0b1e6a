// Answers that are not one piece of JSON: files on their way out, and streams of events.
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import type { FastifyReply } from 'fastify';
import type { Download } from '../blob/download.ts';

/** Proxies drop a connection on which nothing is said for long. */
const heartbeatMs = 15_000;
/** A stream on which nothing happens yet is opened after this: whoever follows something asks how it is when the stream is open. */
const openWithinMs = 10;

/** What users uploaded must never run in a page of ours, whatever its name or type says. */
export function sendDownload(
  reply: FastifyReply,
  { stream, contentType, sizeBytes, filename, range, etag }: Download,
): FastifyReply {
  reply
    .type(contentType)
    .header('content-security-policy', "sandbox; default-src 'none'")
    .header('content-disposition', disposition(filename))
    .header('cache-control', 'private, no-cache');
  if (sizeBytes !== undefined) reply.header('content-length', String(sizeBytes)).header('accept-ranges', 'bytes');
  if (etag !== undefined) reply.header('etag', `"${etag}"`);
  if (range) reply.code(206).header('content-range', `bytes ${range.start}-${range.end - 1}/${range.total}`);
  return reply.send(stream);
}

function disposition(filename: string | undefined): string {
  if (filename === undefined) return 'attachment';
  const ascii = filename.replaceAll(/[^\x20-\x7e]|["\\%]/g, '_');
  return `attachment; filename="${ascii}"; filename*=UTF-8''${encodeURIComponent(filename.toWellFormed()).replaceAll(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16)}`)}`;
}

/**
 * A server-sent event each: its id is what the client resumes from. What goes wrong before the stream is open is answered as any error;
 * later the stream says so and ends, and the client learns more when it resumes.
 */
export async function sendEvents(
  reply: FastifyReply,
  events: AsyncIterable<{ id: number }>,
  signal: AbortSignal,
  failure: (error: unknown) => object,
): Promise<void> {
  const iterator = events[Symbol.asyncIterator]();
  const first = iterator.next();
  await Promise.race([first, pause(openWithinMs)]);
  reply.hijack();
  const out = reply.raw;
  for (const [name, value] of Object.entries(reply.getHeaders()))
    if (value !== undefined) out.setHeader(name, value as string);
  out.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  });
  out.write(': open\n\n');
  const heartbeat = setInterval(() => out.write(': alive\n\n'), heartbeatMs);
  try {
    for (let next = await first; !next.done && !signal.aborted; next = await iterator.next()) {
      const isRoom = out.write(`id: ${next.value.id}\ndata: ${JSON.stringify(next.value)}\n\n`);
      if (!isRoom) await once(out, 'drain', { signal }).catch(() => {}); // gone: seen above
    }
  } catch (error) {
    out.write(`event: error\ndata: ${JSON.stringify(failure(error))}\n\n`);
  } finally {
    clearInterval(heartbeat);
    out.end();
    await iterator.return?.();
  }
}
