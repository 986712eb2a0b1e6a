// How long requests took, as a small histogram: quantiles of the last minutes within 10 percent, in constant memory.

const bucketsPerDoubling = 8;
const firstMs = 0.1;
const bucketCount = 24 * bucketsPerDoubling;
const periodMs = 5 * 60_000;

/** Remembers the current period and the one before. */
export class Latency {
  #current = new Uint32Array(bucketCount);
  #previous = new Uint32Array(bucketCount);
  #periodEndsAt: number;

  constructor(now: number) {
    this.#periodEndsAt = now + periodMs;
  }

  add(durationMs: number, now: number): void {
    this.#turn(now);
    const bucket = Math.floor(Math.log2(Math.max(durationMs, firstMs) / firstMs) * bucketsPerDoubling);
    const index = Math.min(bucket, bucketCount - 1);
    this.#current[index] = this.#current[index]! + 1;
  }

  /** The duration that this share of the requests did not exceed. */
  quantile(share: number, now: number): number | undefined {
    this.#turn(now);
    const counts = this.#current.map((count, bucket) => count + this.#previous[bucket]!);
    const total = counts.reduce((sum, count) => sum + count, 0);
    if (total === 0) return undefined;
    let left = Math.ceil(total * share);
    const bucket = counts.findIndex((count) => {
      left -= count;
      return left <= 0;
    });
    return Number((firstMs * 2 ** ((bucket + 1) / bucketsPerDoubling)).toPrecision(3));
  }

  #turn(now: number): void {
    if (now < this.#periodEndsAt) return;
    const isNext = now < this.#periodEndsAt + periodMs;
    this.#previous = isNext ? this.#current : new Uint32Array(bucketCount);
    this.#current = new Uint32Array(bucketCount);
    this.#periodEndsAt = now + periodMs;
  }
}
