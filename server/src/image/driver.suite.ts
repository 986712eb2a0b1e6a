// What every kind of image must do, run by each kind's own test: build the same from the same, only what is asked for, stop when
// canceled, hand itself out, and serve its model from its own root.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Digest } from '../blob/bytes.ts';
import type { ImageDriver, ImageKind, ImageRecipe, ReplicaTemplate } from './driver.ts';

export interface SuiteData<K extends ImageKind> {
  driver: ImageDriver<K>;
  store(content: string | Uint8Array): Promise<Digest>;
}

export interface Suite<K extends ImageKind> {
  /** A fresh data folder with empty caches below this folder. */
  open(folder: string): Promise<SuiteData<K>>;
  /** Starts a replica, sends it this and stops it: the answer, and what it printed. */
  score(template: ReplicaTemplate, body: string): Promise<{ status: number; answer: string; log: string }>;
  timeoutMs: number;
}

const script = `
import json, os, numpy
from azureml.core.model import Model

def init():
    global factor
    with open(Model.get_model_path('doubler')) as file:
        factor = numpy.float64(file.read())

def run(data):
    return (numpy.array(json.loads(data)['data']) * factor).tolist()
`;

export function imageDriverSuite<K extends ImageKind>(kind: K, { open, score, timeoutMs }: Suite<K>): void {
  describe(`the image kind ${kind}`, () => {
    let folder: string;
    let first: SuiteData<K>;
    let lines: string[];
    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'image-driver-'));
      first = await open(join(folder, 'first'));
    }, timeoutMs);
    afterAll(async () => {
      await rm(folder, { recursive: true, force: true });
    });

    async function recipe(
      data: SuiteData<K>,
      changes: { script?: string; factor?: string } = {},
    ): Promise<ImageRecipe> {
      const code = await data.store(changes.script ?? script);
      const model = await data.store(changes.factor ?? '2');
      return {
        models: [{ name: 'doubler', version: 3, files: [{ path: 'factor.txt', digest: model }] }],
        files: [{ path: 'code/score.py', digest: code }],
        scoringScript: 'code/score.py',
        environment: { requirements: 'numpy<2.3' },
        base: { from: 'default' },
        environmentVariables: { GREETING: 'hello' },
      };
    }

    const build = async (data: SuiteData<K>, of: ImageRecipe, signal = new AbortController().signal) => {
      lines = [];
      return await data.driver.build(of, { log: (line) => lines.push(line), signal });
    };

    test(
      'the same recipe gives the same image from two fresh folders with empty caches, and the model answers from it',
      async () => {
        const built = await build(first, await recipe(first));
        expect(lines.length).toBeGreaterThan(3);
        const second = await open(join(folder, 'Ein zweiter Ordner'));
        expect(await build(second, await recipe(second))).toEqual(built);
        const scored = await score(await second.driver.unpack(built.digest), '{"data": [1, 2.5]}');
        expect(scored, scored.log).toMatchObject({ status: 200, answer: '[2.0,5.0]' });
      },
      timeoutMs,
    );

    test(
      'another script or another model is another image; the first is still what it was',
      async () => {
        const built = await build(first, await recipe(first));
        const triples = await build(first, await recipe(first, { factor: '3' }));
        const other = await build(first, await recipe(first, { script: `${script}\n# changed` }));
        expect(new Set([built.digest, triples.digest, other.digest]).size).toBe(3);
        expect((await score(await first.driver.unpack(triples.digest), '{"data": [1]}')).answer).toBe('[3.0]');
        expect((await score(await first.driver.unpack(built.digest), '{"data": [1]}')).answer).toBe('[2.0]');
      },
      timeoutMs,
    );

    test(
      'an image is handed out compressed, in both formats, under its name, the same each time',
      async () => {
        const { digest } = await build(first, await recipe(first));
        for (const format of ['oci', 'docker'] as const) {
          const archive = async () => {
            const chunks: Buffer[] = [];
            const options = { format, name: 'team/doubler:3', signal: new AbortController().signal };
            for await (const chunk of await first.driver.export(digest, options)) chunks.push(chunk as Buffer);
            return Buffer.concat(chunks);
          };
          const one = await archive();
          expect(gunzipSync(one).toString('latin1')).toContain('team/doubler:3');
          if (format === 'oci') expect((await archive()).equals(one)).toBe(true);
        }
      },
      timeoutMs,
    );

    test('a canceled build stops', async () => {
      await expect(build(first, await recipe(first), AbortSignal.abort())).rejects.toThrow();
    });
  });
}
