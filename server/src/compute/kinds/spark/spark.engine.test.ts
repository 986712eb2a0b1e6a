import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { whyNoJars, whyNoSpark } from '../../../../../test/engines/spark/spark-cluster.ts';
import { driverSuite } from '../../driver.suite.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { type OnCluster, onCluster, targetOn } from './spark.fixture.ts';

describe.skipIf(whyNoSpark)(`a Spark cluster, by spark-submit${whyNoSpark ? ` (${whyNoSpark})` : ''}`, () => {
  driverSuite('it', (server) => onCluster(server));
});

describe.skipIf(whyNoJars)(`a Spark cluster, by Livy${whyNoJars ? ` (${whyNoJars})` : ''}`, () => {
  driverSuite('it', (server) => onCluster(server, { livy: true }));
});

describe.skipIf(whyNoSpark)(`such a cluster, probed${whyNoSpark ? ` (${whyNoSpark})` : ''}`, () => {
  let server: RealServer;
  let there: OnCluster;
  beforeAll(async () => {
    server = await RealServer.start();
    there = await onCluster(server, { workers: 1, livy: !whyNoJars });
  });
  afterAll(async () => {
    await there?.end();
    await server?.[Symbol.asyncDispose]();
  });
  type Settings = OnCluster['target']['settings'];
  const probe = (more: Partial<Settings> = {}) => there.driver().probe(targetOn(there.cluster, more));

  test('is usable if all that is needed works, and is left as it was', async () => {
    const { home } = there.cluster.host;
    const before = there.cluster.host.shell(`ls -A ${home} /tmp`);
    const { usable, findings } = await probe();
    expect(usable, JSON.stringify(findings)).toBe(true);
    const machine = ['address', 'host key', 'sign-in', 'disk', 'python', 'way back'];
    for (const { detail } of findings) expect(detail).toMatch(/^\p{Lu}?.+[.]$/u);
    expect(findings.map(({ what }) => what)).toEqual([...machine, 'spark', 'master']);
    expect(findings.find(({ what }) => what === 'spark')?.detail).toMatch(/^It is Spark 3\.5\.\d+\.$/);
    expect(there.cluster.host.shell(`ls -A ${home} /tmp`)).toBe(before);
  });

  test('has one queue for a cluster, by another life of the service too', () => {
    const [one, other] = [there.driver(), there.driver()];
    expect(one.kind).toBe(there.target.settings.kind);
    expect(one.queue(there.target)).toBe(other.queue(targetOn(there.cluster, { master: 'yarn' })));
  });

  test.skipIf(whyNoJars)('a Livy that answers is found, too', async () => {
    const { usable, findings } = await probe({ livy: there.cluster.livy });
    expect(usable, JSON.stringify(findings)).toBe(true);
    expect(findings.at(-1)).toMatchObject({ what: 'livy', ok: true });
  });

  test.each<[string, Partial<Settings>, string]>([
    ['address', { port: 1 }, 'cannot be reached'],
    ['sign-in', { key: undefined, password: 'wrong' }, 'refused the sign-in'],
    ['spark', { sparkHome: '/opt/no-spark' }, 'cannot be started'],
    ['master', { master: 'spark://127.0.0.1:1' }, 'cannot be reached'],
    ['livy', { livy: 'http://127.0.0.1:1' }, 'cannot be reached'],
  ])('what is wrong with its %s is told, with what to do', async (what, more, detail) => {
    const flaw = (await probe(more)).findings.find(({ ok }) => !ok);
    expect(flaw).toMatchObject({ what, detail: expect.stringContaining(detail) });
    expect(flaw?.hint).toMatch(/[.]$/);
  });
});
