// Whether a Docker Engine can be used, and what to do if not: each step is tried, in the order in which they build on each other.
import type { Probe } from '@stellwerk/contract/compute.ts';
import { shownHostKey } from '../../../exec/ssh/connection.ts';
import type { Target } from '../../driver.ts';
import type { Engine } from './engine.ts';
import { flawOfMissing, foundImage } from './images.ts';
import { askedServer, describedBy, type Info, infoOf, type LookingNeeds, saidBy } from './looking.ts';

type Finding = Probe['findings'][number];

export async function probed(target: Target<'docker'>, engine: Engine, needs: LookingNeeds): Promise<Finding[]> {
  const hostKey = await flawOfHostKey(target);
  if (hostKey) return [hostKey];
  const info = await infoOf(engine).catch((error: Error) => error);
  if (info instanceof Error)
    return [{ what: 'address', ok: false, detail: sentence(info.message), hint: hintFor(target.settings.address) }];
  const { ServerVersion, Name } = info;
  const findings: Finding[] = [
    { what: 'address', ok: true, detail: `Docker Engine ${ServerVersion} on ${Name} answers.` },
  ];
  const all = [
    () => limits(info),
    () => image(engine, target),
    () => python(engine, target, needs),
    () => wayBack(engine, target, needs),
  ];
  for (const find of all) {
    const found = await Promise.resolve(find()).catch((error: Error) => failed(error));
    if (found) findings.push(found);
    if (found && !found.ok) break;
  }
  return findings;
}

async function flawOfHostKey({ settings }: Target<'docker'>): Promise<Finding | undefined> {
  if (!settings.address.startsWith('ssh://') || settings.hostKey !== undefined) return undefined;
  const { hostname, port, username } = new URL(settings.address);
  const shown = await shownHostKey({ address: hostname, port: Number(port || 22), user: username }).catch(
    (error: Error) => error,
  );
  if (shown instanceof Error)
    return { what: 'address', ok: false, detail: sentence(shown.message), hint: hintFor(settings.address) };
  const hint = 'If that is the key of this machine (it has it in /etc/ssh/ssh_host_*_key.pub), give it as hostKey.';
  return { what: 'host key', ok: false, detail: `Its host key is not known yet, it shows: ${shown}.`, hint };
}

function limits({ OSType, MemoryLimit, CpuCfsQuota, NCPU, MemTotal }: Info): Finding {
  if (OSType !== 'linux')
    return {
      what: 'limits',
      ok: false,
      detail: `Its containers are of ${OSType}.`,
      hint: 'Switch it to Linux containers.',
    };
  const detail = `${NCPU} CPUs and ${Math.round(MemTotal / 1e9)} GB of memory, shares of which can be given to runs.`;
  if (MemoryLimit && CpuCfsQuota) return { what: 'limits', ok: true, detail };
  const hint = "Let the engine's machine have the control groups for memory and CPU (see `docker info`).";
  return { what: 'limits', ok: false, detail: 'It cannot limit what containers take.', hint };
}

async function image(engine: Engine, { settings }: Target<'docker'>): Promise<Finding> {
  const found = await foundImage(engine, settings.image);
  if (found) return { what: 'image', ok: true, detail: `The image ${settings.image} is there: ${found.digest}.` };
  const flaw = await flawOfMissing(engine, settings.image);
  if (flaw) return { what: 'image', ok: false, ...flaw };
  return { what: 'image', ok: true, detail: `The image ${settings.image} will be pulled by the first run.` };
}

async function python(
  engine: Engine,
  { settings }: Target<'docker'>,
  needs: LookingNeeds,
): Promise<Finding | undefined> {
  const found = await foundImage(engine, settings.image);
  if (!found) return undefined;
  const ended = await describedBy(engine, found.id, needs);
  if (ended.code === 0)
    return { what: 'python', ok: true, detail: `The image ${settings.image} has a Python that runs the runner.` };
  const hint = 'Name an image with Python 3.8 or newer as `python3`, such as `python:3.13-slim`.';
  return {
    what: 'python',
    ok: false,
    detail: `python3 cannot be used in the image ${settings.image}: ${saidBy(ended)}.`,
    hint,
  };
}

/** Laid, used and taken away. */
async function wayBack(
  engine: Engine,
  { settings }: Target<'docker'>,
  needs: LookingNeeds,
): Promise<Finding | undefined> {
  const found = await foundImage(engine, settings.image);
  if (!found) return undefined;
  const ended = await askedServer(engine, found.id, needs);
  if (ended.code === 0)
    return {
      what: 'way back',
      ok: true,
      detail: 'What runs there reaches this server through the connection to the engine.',
    };
  const hint =
    'See that nothing between here and the engine refuses `docker exec`, such as an authorization plugin or a proxy.';
  return { what: 'way back', ok: false, detail: `What runs there does not reach this server: ${saidBy(ended)}.`, hint };
}

function failed(error: Error): Finding {
  return {
    what: 'containers',
    ok: false,
    detail: sentence(error.message),
    hint: 'See what the engine writes to its own log.',
  };
}

function hintFor(address: string): string {
  if (address.startsWith('unix://'))
    return 'See that the engine runs on this machine, and that this server may open its socket.';
  if (address.startsWith('tcp://'))
    return 'See that the engine listens there with --tlsverify, and that ca, certificate and key are those that belong to it.';
  return 'See that sshd runs there, that the user may sign in with this key or password, and may open the socket of the engine (group docker).';
}

const sentence = (text: string) => `${text.replace(/[.\s]+$/, '')}.`;
