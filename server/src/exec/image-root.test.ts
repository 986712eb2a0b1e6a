import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { findInRoot, prepareMountPoints, pythonInRoot, resolveInRoot } from './image-root.ts';

let root = '';

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'stellwerk-image-'));
  mkdirSync(join(root, 'usr/bin'), { recursive: true });
  writeFileSync(join(root, 'usr/bin/python3.11'), '', { mode: 0o755 });
  writeFileSync(join(root, 'usr/bin/plain'), '', { mode: 0o644 });
  symlinkSync('usr/bin', join(root, 'bin'));
  symlinkSync('python3.11', join(root, 'usr/bin/python3'));
  symlinkSync('/usr/bin/python3', join(root, 'usr/bin/python'));
  symlinkSync('../../../../../../etc/passwd', join(root, 'usr/bin/climber'));
  symlinkSync('/etc/passwd', join(root, 'usr/bin/absolute'));
  symlinkSync('circle', join(root, 'usr/bin/circle'));
  writeFileSync(join(root, 'etc'), '');
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

it('links are followed inside the image', () => {
  expect(resolveInRoot(root, '/bin/python')).toBe(join(root, 'usr/bin/python3.11'));
  expect(resolveInRoot(root, 'bin/../bin/python3')).toBe(join(root, 'usr/bin/python3.11'));
});

it('no path leads out of the image', () => {
  for (const path of ['/bin/climber', '/bin/absolute', '/../../etc/passwd', '/bin/circle', '/nothing']) {
    expect(resolveInRoot(root, path), path).toBeUndefined();
  }
});

it('programs are found as a shell would, if they can be executed', () => {
  expect(findInRoot(root, 'python3', '/nothing:/bin')).toBe('/bin/python3');
  expect(findInRoot(root, '/usr/bin/python')).toBe('/usr/bin/python');
  expect(findInRoot(root, 'plain')).toBeUndefined();
  expect(findInRoot(root, 'climber')).toBeUndefined();
});

it("the command's Python comes before the one on the path", () => {
  expect(pythonInRoot(root, '/usr/bin/python3.11')).toBe('/usr/bin/python3.11');
  expect(pythonInRoot(root, '/usr/bin/gunicorn')).toBe('/usr/bin/python3');
  expect(() => pythonInRoot(tmpdir(), 'python3')).toThrow('The image holds no Python');
});

it('a mount point that is there as something else is refused', () => {
  prepareMountPoints(root, ['/proc', '/run/stellwerk'], ['/usr/hosts']);
  expect(resolveInRoot(root, '/run/stellwerk')).toBe(join(root, 'run/stellwerk'));
  expect(() => prepareMountPoints(root, ['/etc'], [])).toThrow('its /etc is not an ordinary folder');
  expect(() => prepareMountPoints(root, ['/bin'], [])).toThrow('its /bin is not an ordinary folder');
  expect(() => prepareMountPoints(root, [], ['/etc/hosts'])).toThrow('its /etc is not an ordinary folder');
});
