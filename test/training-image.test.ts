// Runs whose environment lies in an image that the server makes of a base and their lock: made once for each pair, and sent to an engine that need
// not reach this server.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DockerEngine, whyNoDocker } from './engines/docker/docker-engine.ts';
import { Installation } from './installation.ts';
import { submit } from './submission.ts';
import { until, untilEnded } from './waiting.ts';

const workspace = 'story';

describe.skipIf(whyNoDocker)(`in an image with its environment (${whyNoDocker ?? 'Docker Engine'})`, () => {
  let installation: Installation;
  let engine: DockerEngine;

  beforeAll(async () => {
    [installation, engine] = await Promise.all([Installation.start(), DockerEngine.up()]);
    const settings = { kind: 'docker' as const, address: `unix://${engine.socket}`, image: engine.image };
    await installation.client.compute.attach({ workspace, name: 'engine', settings });
  });
  afterAll(async () => {
    await installation?.[Symbol.asyncDispose]();
    await engine?.down();
  });

  async function trained(code: string, environment: object) {
    const configuration = { code, target: 'engine', environment, container: { environment: 'in-image' as const } };
    const run = await submit(installation, configuration);
    const of = { workspace, run: run.id };
    const { state, reason } = await untilEnded({ client: installation.client, ...of });
    const ended = await until(`what came of it is told (${state}: ${reason})`, async () => {
      const record = await installation.client.runs.get(of);
      return record.job?.image !== undefined && record;
    });
    const printed = await (await installation.client.logs.get(of)).text();
    const log = await (await installation.client.activities.getLog({ workspace, activity: run.activity! })).text();
    return { ended, printed, log };
  }

  const code =
    'import sys, six\nprint(sys.prefix, six.__version__)\nfrom stellwerk.core import Run\nRun.get_context().log("x", 1)\n';
  const environment = { requirements: ['six==1.16.0'] };

  test('the environment is there when the run starts, and its lock is on the run', async () => {
    const first = await trained(code, environment);
    expect(first.ended.state, `${first.ended.reason}\n${first.printed}\n${first.log}`).toBe('completed');
    expect(first.printed).toBe('/opt/stellwerk/env 1.16.0\n');
    expect(first.ended.environment?.lock).toContain('six==1.16.0');
    expect(first.ended.job?.image).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(first.log).toContain('is sent to the engine');

    const again = await trained(code, environment);
    expect(again.ended).toMatchObject({ state: 'completed', job: { image: first.ended.job!.image } });
    expect(again.log).not.toContain('is sent to the engine');
  });

  test('a base that is nowhere fails the run with what to do; a target that takes no images refuses it at once', async () => {
    const nowhere = { image: 'registry.invalid/team/base:1', environment: 'in-image' as const };
    const run = await submit(installation, { code, target: 'engine', environment, container: nowhere });
    const failed = await untilEnded({ client: installation.client, workspace, run: run.id });
    expect(failed).toMatchObject({ state: 'failed', reason: expect.stringContaining('registry.invalid') });
    await expect(
      submit(installation, { code, target: 'host', environment, container: { environment: 'in-image' } }),
    ).rejects.toMatchObject({ message: expect.stringContaining('container') });
  });
});
