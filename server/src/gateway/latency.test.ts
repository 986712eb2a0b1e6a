import { expect, it } from 'vitest';
import { Latency } from './latency.ts';

it('quantiles are within ten percent', () => {
  const latency = new Latency(0);
  for (let ms = 1; ms <= 1_000; ms++) latency.add(ms, 0);
  for (const share of [0.5, 0.95]) {
    expect(latency.quantile(share, 0)).toBeGreaterThanOrEqual(share * 1_000);
    expect(latency.quantile(share, 0)).toBeLessThan(share * 1_000 * 1.1);
  }
});

it('what is older than two periods is forgotten', () => {
  const latency = new Latency(0);
  latency.add(10, 0);
  expect(latency.quantile(0.5, 6 * 60_000)).toBeCloseTo(10, -1);
  expect(latency.quantile(0.5, 16 * 60_000)).toBeUndefined();
});

it('durations of nothing and of hours have a place', () => {
  const latency = new Latency(0);
  latency.add(0, 0);
  latency.add(5 * 3_600_000, 0);
  expect(latency.quantile(0, 0)).toBeLessThan(1);
  expect(latency.quantile(1, 0)).toBeGreaterThan(60_000);
});
