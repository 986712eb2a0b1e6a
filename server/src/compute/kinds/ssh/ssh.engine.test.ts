import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SshHost, whyNoSshHost } from '../../../../../test/engines/ssh/ssh-host.ts';
import { driverSuite } from '../../driver.suite.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { type OnHost, onHost, targetOn } from './ssh.fixture.ts';

describe.skipIf(whyNoSshHost)(`a machine that is reached by ssh${whyNoSshHost ? ` (${whyNoSshHost})` : ''}`, () => {
  driverSuite('it', (server) => onHost(server));
});

describe.skipIf(whyNoSshHost)(`such a machine, probed${whyNoSshHost ? ` (${whyNoSshHost})` : ''}`, () => {
  let server: RealServer;
  let there: OnHost;
  beforeAll(async () => {
    server = await RealServer.start();
    there = await onHost(server);
  });
  afterAll(async () => {
    await there?.end();
    await server?.[Symbol.asyncDispose]();
  });
  const probe = (more: Partial<OnHost['target']['settings']> = {}) => there.driver().probe(targetOn(there.host, more));
  const flawOf = async (more: Partial<OnHost['target']['settings']> = {}) =>
    (await probe(more)).findings.find(({ ok }) => !ok);

  test('is usable if all that is needed works, by key or password, and is left as it was', async () => {
    const before = there.host.shell(`ls -A ${there.host.home} /tmp`);
    for (const { usable, findings } of [await probe(), await probe({ key: undefined, password: 'password' })]) {
      expect(usable, JSON.stringify(findings)).toBe(true);
      expect(findings.map(({ what }) => what)).toEqual([
        'address',
        'host key',
        'sign-in',
        'disk',
        'python',
        'way back',
      ]);
      for (const { detail } of findings) expect(detail).toMatch(/^\p{Lu}?.+[.]$/u);
    }
    expect(there.host.shell(`ls -A ${there.host.home} /tmp`)).toBe(before);
    expect(there.driver().queue(there.target)).toBe(there.driver().queue(there.target));
  });

  test('a machine without a known host key shows the one that it has, and is told nothing', async () => {
    const flaw = await flawOf({ hostKey: undefined });
    expect(flaw).toMatchObject({ what: 'host key', detail: expect.stringContaining(there.host.hostKey) });
    expect(flaw?.hint).toContain('hostKey');
  });

  test.each<[string, Partial<OnHost['target']['settings']>, string]>([
    ['address', { port: 1 }, 'cannot be reached'],
    ['host key', { hostKey: `SHA256:${'A'.repeat(43)}` }, 'another host key'],
    ['sign-in', { key: undefined, password: 'wrong' }, 'refused the sign-in'],
    ['python', { python: '/usr/bin/no-python' }, 'cannot be used'],
    ['disk', { folder: '/proc/runs' }, 'cannot be written'],
  ])('what is wrong with its %s is told, with what to do', async (what, more, detail) => {
    const flaw = await flawOf(more);
    expect(flaw).toMatchObject({ what, detail: expect.stringContaining(detail) });
    expect(flaw?.hint).toMatch(/[.]$/);
  });

  test('a package of before stays for the jobs that run from it; a target that is detached leaves nothing there', async () => {
    const { home } = there.host;
    const bundles = () => there.host.shell(`ls ${home}/.stellwerk/suite/bundles`).trim().split('\n').length;
    const order = await server.order('import time\nprint("early", flush=True)\ntime.sleep(600)\n');
    const handle = await there.driver().jobs.start(there.target, order);
    const updated = await there.updated();
    expect(await updated.jobs.look(there.target, handle)).toEqual({ state: 'running' });
    expect(bundles()).toBe(2);
    await updated.forget(there.target);
    expect(await updated.jobs.look(there.target, handle)).toEqual({ state: 'running' });
    await updated.jobs.cleanUp(there.target, handle);
    const next = await there.updated();
    await next.platform(there.target);
    expect(bundles()).toBe(1);
    await next.forget(there.target);
    expect(there.host.shell(`ls -A ${home}/.stellwerk`)).toBe('');
    await next.platform(there.target);
    expect(bundles()).toBe(1);
  });

  test('a machine whose sshd lays no way back is not usable', async () => {
    const refuse = 'echo "AllowStreamLocalForwarding no" >> /host/sshd_config';
    await using other = await SshHost.up();
    other.shell(refuse);
    other.killSshd();
    await other.startSshd();
    const { findings } = await there.driver().probe(targetOn(other, { key: undefined, password: 'password' }));
    expect(findings.at(-1)).toMatchObject({ what: 'sign-in', ok: false }); // it has another password
    const own = await onHost(server);
    own.host.shell(refuse);
    own.host.killSshd();
    await own.host.startSshd();
    const flaw = (await own.driver().probe(own.target)).findings.find(({ ok }) => !ok);
    await own.end();
    expect(flaw).toMatchObject({ what: 'way back', hint: expect.stringContaining('AllowStreamLocalForwarding') });
  });
});
