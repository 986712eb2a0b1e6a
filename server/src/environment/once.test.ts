import { expect, test } from 'vitest';
import { Once } from './once.ts';

test('work wanted by several at once is done once, and all see its log from the start', async () => {
  const once = new Once<number>();
  const go = Promise.withResolvers<void>();
  let times = 0;
  const logs: string[][] = [[], []];
  const ask = (log: string[]) =>
    once.get('key', { log: (line) => log.push(line) }, async (watch) => {
      times += 1;
      watch.log('one');
      await go.promise;
      watch.log('two');
      return times;
    });
  const first = ask(logs[0]!);
  await Promise.resolve();
  const second = ask(logs[1]!);
  go.resolve();
  expect(await Promise.all([first, second])).toEqual([1, 1]);
  expect(logs).toEqual([
    ['one', 'two'],
    ['one', 'two'],
  ]);
  expect(await ask([])).toBe(2);
});

test('one that gives up returns at once; the work goes on for the others and is stopped with the last', async () => {
  const once = new Once<string>();
  let stopped = false;
  const make = ({ signal }: { signal: AbortSignal }) =>
    new Promise<string>((_resolve, reject) =>
      signal.addEventListener('abort', () => {
        stopped = true;
        reject(signal.reason);
      }),
    );
  const [a, b] = [new AbortController(), new AbortController()];
  const first = once.get('key', { signal: a.signal }, make);
  const second = once.get('key', { signal: b.signal }, make);
  a.abort(new Error('given up'));
  await expect(first).rejects.toThrow('given up');
  expect(stopped).toBe(false);
  b.abort(new Error('given up too'));
  await expect(second).rejects.toThrow('given up too');
  expect(stopped).toBe(true);
  expect(await once.get('key', {}, async () => 'anew')).toBe('anew');
});

test('a failure reaches all who wait and is not kept', async () => {
  const once = new Once<string>();
  const fail = () => Promise.reject(new Error('no'));
  const both = [once.get('key', {}, fail), once.get('key', {}, fail)];
  for (const one of both) await expect(one).rejects.toThrow('no');
  expect(await once.get('key', {}, async () => 'yes')).toBe('yes');
});
