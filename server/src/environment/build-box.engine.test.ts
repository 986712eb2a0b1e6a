// Source distributions on a server that several people use: what their authors wrote is executed, and sees and changes nothing.
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { BuiltPlan } from '@stellwerk/contract/environment.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { wheelPath } from '../assets.ts';
import { inheritEnvironment } from '../exec/programs.ts';
import { isolationHere } from '../exec/sandbox.ts';
import type { BuildBox } from './build-box.ts';
import { Environments } from './environments.ts';
import { makeSourceDistribution, makeWheel, type PackageIndex, servePackages } from './package-index.fixture.ts';

const { HOME = '' } = process.env;
let path = process.env.PATH!;
const user = { name: 'team', password: 'pässword-of-the-index' };
const place = { prefix: '/opt/stellwerk/env', imagePython: '/usr/bin/python3' };
const secret = 'secret-of-another-user';
let folder: string;
let data: string;
let box: BuildBox;
let index: PackageIndex;

/** A build that looks around, and puts what it found into the wheel. */
const curious = (port: number) => `
import glob, json, os, socket, uuid, zipfile
import helpful

def tried(act):
    try:
        return str(act())[:2000]
    except Exception as error:
        return "refused: " + type(error).__name__

def write(path):
    with open(path, "w") as file:
        file.write("was here")
    return "written"

def found():
    memory = glob.glob("/proc/[0-9]*/environ")
    return {
        "helped": helpful.by,
        "token": str(uuid.uuid4()),
        "user": os.getuid(),
        "environment": dict(os.environ),
        "data": tried(lambda: open(${JSON.stringify(join(data, 'secret'))}).read()),
        "listed": tried(lambda: os.listdir(${JSON.stringify(data)})),
        "home": tried(lambda: os.listdir(${JSON.stringify(HOME)})),
        "passwords": tried(lambda: open("/etc/shadow").read()),
        "processes": [tried(lambda: open(path).read()) for path in memory],
        "network": tried(lambda: socket.create_connection(("127.0.0.1", ${port}), 5)),
        "written": [tried(lambda: write(path)) for path in (${JSON.stringify(join(data, 'left'))}, "/usr/left")],
        "temporary": tried(lambda: write(${JSON.stringify(join(tmpdir(), 'stellwerk-left-by-a-build'))})),
        "rights": [line for line in open("/proc/self/status") if line.startswith(("CapEff", "CapBnd", "NoNewPrivs"))],
    }

def build_wheel(directory, settings=None, metadata=None):
    name = "curious-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.writestr("curious.json", json.dumps(found()))
        wheel.writestr("curious-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: curious\\nVersion: 1.0\\n")
        wheel.writestr("curious-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("curious-1.0.dist-info/RECORD", "curious.json,,\\ncurious-1.0.dist-info/METADATA,,\\ncurious-1.0.dist-info/WHEEL,,\\ncurious-1.0.dist-info/RECORD,,\\n")
    return name
`;

/** A build that leaves a link where uv reads what it said, and hopes that uv's error tells what lies behind it. */
const luring = () => `
import os, re, sys

def get_requires_for_build_wheel(settings=None):
    said = re.findall(r"/[^'\\"]*get_requires_for_build_wheel[.]txt", " ".join(sys.orig_argv))[0]
    os.symlink(${JSON.stringify(join(data, 'secret'))}, said)
    os._exit(0)
`;

beforeAll(async () => {
  inheritEnvironment({ PATH: path, HOME });
  folder = await mkdtemp(join(tmpdir(), 'build-box-'));
  data = join(folder, 'data');
  // uv itself is not to come from the index of this test.
  const ordinary = new Environments({
    cacheDir: join(folder, 'uv'),
    inherited: process.env as Record<string, string>,
    indexes: () => ({}),
  });
  path = `${dirname(await ordinary.uv())}:${path}`;
  inheritEnvironment({ PATH: path, HOME });
  await mkdir(data);
  // Open to all, so that only the box keeps builds from it.
  // In the form in which uv expects what a build says, so that its error would show it.
  await chmod(folder, 0o755);
  await writeFile(join(data, 'secret'), JSON.stringify([`${secret} !`]));
  box = { pythonPackage: (await wheelPath())!, hidden: [data] };
  const wheels = [await makeWheel('helpful', '1.0', { 'helpful.py': 'by = "a wheel"\n' })];
  index = await servePackages(wheels, user);
  wheels.push(await makeSourceDistribution('curious', '1.0', curious(index.port), ['helpful']));
  wheels.push(await makeSourceDistribution('luring', '1.0', luring()));
});
afterAll(async () => {
  await index[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

function open(cache: string): Environments {
  return new Environments({
    cacheDir: join(data, cache),
    inherited: { PATH: path, HOME, PIP_CONFIG_FILE: '/dev/null', STELLWERK_SECRET: secret },
    indexes: () => ({
      indexUrl: index.url,
      credentials: [{ url: index.url, username: user.name, password: user.password }],
    }),
    box,
  });
}

async function lockOf(environments: Environments, requirements: string): Promise<BuiltPlan> {
  const plan = await environments.lock({ requirements });
  if (plan.kind !== 'built') throw new Error('a built environment was asked for');
  return plan;
}

async function foundBy(environments: Environments, plan: BuiltPlan): Promise<Record<string, unknown>> {
  const layer = await environments.layer(plan, place);
  const source = layer.entries.find(({ path }) => path.endsWith('/curious.json'))?.source;
  if (!source || !('file' in source)) throw new Error('nothing was built');
  const text = await readFile(source.file, 'utf8');
  await environments.removeUnused({ before: Date.now() + 3_600_000, isInUse: () => false, dryRun: false });
  return JSON.parse(text);
}

const confined = (await isolationHere()) === 'namespace';

test.runIf(confined)('a source distribution is built once, and its build sees and changes nothing', async () => {
  const environments = open('cache');
  const plan = await lockOf(environments, 'curious');
  expect(plan.lockText).toMatch(/^curious==1\.0 --hash=sha256:/);
  const found = await foundBy(environments, plan);
  expect(found).toMatchObject({
    helped: 'a wheel',
    user: 65534,
    data: 'refused: FileNotFoundError',
    home: expect.stringMatching(/^(refused: FileNotFoundError|\['\.pyenv'\])$/), // at most the Python that builds is there
    passwords: 'refused: FileNotFoundError',
    network: expect.stringMatching(/^refused: /),
    temporary: 'written',
  });
  expect(found.written).toEqual([expect.stringMatching(/^refused: /), 'refused: OSError']);
  expect(found.rights).toEqual([
    expect.stringMatching(/CapEff:\s+0+\n/),
    expect.stringMatching(/CapBnd:/),
    expect.stringMatching(/NoNewPrivs:\s+1/),
  ]);
  const seen = JSON.stringify(found);
  for (const hidden of [secret, user.password, encodeURIComponent(user.password), 'UV_INDEX', 'NETRC'])
    expect(seen).not.toContain(hidden);
  expect(Object.keys(found.environment as object).filter((name) => /STELLWERK|UV_|PIP_/.test(name))).toEqual([]);
  expect([join(data, 'left'), '/usr/left', join(tmpdir(), 'stellwerk-left-by-a-build')].filter(existsSync)).toEqual([]);
  // By a server that was started anew, from the wheel that was kept.
  expect((await foundBy(open('cache'), plan)).token).toBe(found.token);
  expect((await foundBy(open('another cache'), plan)).token).not.toBe(found.token);
});

test.runIf(confined)('what a build leaves cannot make uv tell what the build could not read', async () => {
  const refused = await open('cache')
    .lock({ requirements: 'luring' })
    .catch((error: Error) => error);
  expect(refused).toBeInstanceOf(Error);
  expect((refused as Error).message).toContain('luring');
  expect((refused as Error).message).not.toContain(secret);
});

test('where the machine refuses namespaces nothing is built, and the message says what to do', async () => {
  const bin = join(folder, 'without namespaces');
  await mkdir(bin);
  await writeFile(join(bin, 'unshare'), '#!/bin/sh\necho "unshare failed: Operation not permitted" >&2\nexit 1\n', {
    mode: 0o755,
  });
  inheritEnvironment({ PATH: `${bin}:${path}`, HOME });
  try {
    await expect(open('refusing').lock({ requirements: 'curious' })).rejects.toMatchObject({
      reason: 'environment.unresolvable',
      message: expect.stringMatching(/curious.*refuses the namespaces.*Name a version that has a wheel/s),
    });
  } finally {
    inheritEnvironment({ PATH: path, HOME });
  }
});

test('what a specification names beyond the server’s index settings is not fetched', async () => {
  await expect(open('cache').lock({ requirements: '-i http://127.0.0.1:9/simple\nsix' })).rejects.toMatchObject({
    code: 'permission-denied',
  });
});
