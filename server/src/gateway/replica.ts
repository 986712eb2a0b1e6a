// One replica as the gateway sees it: its connections, how many requests it has, and whether it is ready.
// Invariant: requests are sent only to a replica that has answered `GET /ready` and not failed since.
import { parseJson } from '@stellwerk/contract/json-shape.ts';
import { Pool } from 'undici';
import type { ReplicaAddress } from './routes.ts';
import { connectTo } from './socket-path.ts';

/** Between checks: while waiting for a replica to come up, and once it is up. */
const unreadyCheckMs = 100;
const readyCheckMs = 2_000;
const checkTimeoutMs = 5_000;
/** A replica that is merely slow to say it is ready is believed to be busy this many times. */
const slowChecksAllowed = 3;
/** Shorter than the scorer's, so that a connection is closed by us and never under a request. */
const idleConnectionMs = 30_000;

export class Replica {
  readonly id: string;
  readonly pool: Pool;
  inFlight = 0;
  ready = false;
  reason: string | undefined = 'It has not answered yet.';
  #slow = 0;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(id: string, address: ReplicaAddress) {
    this.id = id;
    this.pool = makePool(address);
    void this.#check();
  }

  /** A connection was refused: no further request until it has answered a check. */
  refused(reason: string): void {
    this.ready = false;
    this.reason = reason;
    this.#checkIn(unreadyCheckMs);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.pool.destroy();
  }

  #checkIn(delayMs: number): void {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.#check(), delayMs);
    this.#timer.unref();
  }

  async #check(): Promise<void> {
    try {
      const answer = await this.pool.request({
        path: '/ready',
        method: 'GET',
        headersTimeout: checkTimeoutMs,
        bodyTimeout: checkTimeoutMs,
      });
      const text = await answer.body.text();
      this.ready = answer.statusCode === 200;
      this.reason = this.ready ? undefined : reasonIn(text);
      this.#slow = 0;
    } catch (error) {
      const isSlow = (error as { code?: string }).code === 'UND_ERR_HEADERS_TIMEOUT';
      if (!(isSlow && this.ready && ++this.#slow < slowChecksAllowed)) {
        this.ready = false;
        this.reason = isSlow ? 'It does not answer.' : (error as Error).message;
      }
    }
    this.#checkIn(this.ready ? readyCheckMs : unreadyCheckMs);
  }
}

function makePool(address: ReplicaAddress): Pool {
  const options = {
    pipelining: 1,
    keepAliveTimeout: idleConnectionMs,
    keepAliveMaxTimeout: idleConnectionMs,
    allowH2: false,
    headersTimeout: 0,
    bodyTimeout: 0,
  };
  if (!('socketPath' in address))
    return new Pool(`http://${address.host}:${address.port}`, { ...options, connect: { timeout: 5_000 } });
  return new Pool('http://replica', {
    ...options,
    connect: (_, callback) => {
      try {
        const socket = connectTo(address.socketPath);
        const failed = (error: Error) => callback(error, null);
        socket.once('error', failed);
        socket.once('connect', () => {
          socket.off('error', failed);
          callback(null, socket);
        });
      } catch (error) {
        callback(error as Error, null);
      }
    },
  });
}

/** The scorer says why it is not ready; another program may say anything. */
function reasonIn(text: string): string {
  try {
    const { reason } = parseJson(text) as { reason?: unknown };
    if (typeof reason === 'string') return reason.slice(0, 1_000);
  } catch {
    // not JSON: no reason that could be shown
  }
  return 'It answers that it is not ready.';
}
