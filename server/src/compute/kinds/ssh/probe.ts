// Whether a machine can be used by SSH, and what to do if not: each step is tried, in the order in which they build on each other.
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type { Probe } from '@stellwerk/contract/compute.ts';
import { isKnownBy, type SshConnection, shownHostKey } from '../../../exec/ssh/connection.ts';
import { type BySsh, connect, type SshNeeds } from './machine.ts';

export type Finding = Probe['findings'][number];

const askPython = `
import sys, venv, ensurepip, fcntl
print("%d.%d" % sys.version_info[:2])
sys.exit(sys.version_info < (3, 8))
`;

/** Asks this server who it is, through the socket. */
const askServer = `
import http.client, socket, sys
way = http.client.HTTPConnection("localhost", timeout=20)
way.sock = socket.socket(socket.AF_UNIX)
way.sock.settimeout(20)
way.sock.connect(sys.argv[1])
way.request("GET", "/api/v1/server")
answer = way.getresponse()
answer.read()
sys.exit(answer.status != 200)
`;

/** `more` is found out on a machine on which all this works. */
export async function probed(
  target: BySsh,
  needs: SshNeeds,
  more: (connection: SshConnection) => Promise<Finding[]> = async () => [],
): Promise<Finding[]> {
  const { settings } = target;
  const { address, port, user } = settings;
  const findings: Finding[] = [];
  const found = (what: string, ok: boolean, detail: string, hint?: string) => {
    findings.push({ what, ok, detail, ...(!ok && hint !== undefined && { hint }) });
    return ok;
  };
  const shown = await shownHostKey(settings).catch((error: Error) => error);
  if (shown instanceof Error) {
    found(
      'address',
      false,
      sentence(shown.message),
      `See that sshd runs there, and that this server may reach port ${port}.`,
    );
    return findings;
  }
  found('address', true, `${address}:${port} answers.`);
  const isPinned = settings.hostKey !== undefined;
  const isKnown = isPinned && isKnownBy(Buffer.from(shown.split(' ')[1]!, 'base64'), settings.hostKey!);
  const flaw = isPinned
    ? 'It shows another host key than the one that it is known by'
    : 'Its host key is not known yet, it shows';
  const detail = isKnown ? 'It shows the host key that it is known by.' : `${flaw}: ${shown}.`;
  const hint = 'If that is the key of this machine (it has it in /etc/ssh/ssh_host_*_key.pub), give it as hostKey.';
  if (!found('host key', isKnown, detail, hint)) return findings;
  const connection = await connect(target, needs).catch((error: Error) => error);
  if (connection instanceof Error) {
    found(
      'sign-in',
      false,
      sentence(connection.message),
      `See that ${user} may sign in there with this key or password.`,
    );
    return findings;
  }
  found('sign-in', true, `${user} is signed in.`);
  try {
    findings.push(await disk(connection, settings.folder));
    const python = await findPython(connection, settings.python);
    findings.push(python);
    if (python.ok) findings.push(await wayBack(connection, settings.python, needs.connectHere));
    if (findings.every(({ ok }) => ok)) findings.push(...(await more(connection)));
  } catch (error) {
    found('address', false, sentence((error as Error).message), 'Try again.');
  } finally {
    connection.close();
  }
  return findings;
}

async function findPython(connection: SshConnection, python: string): Promise<Finding> {
  const { code, stdout, stderr } = await connection.run({ words: [python, '-c', askPython] });
  if (code === 0) return { what: 'python', ok: true, detail: `${python} is Python ${stdout.trim()}, with venv.` };
  const said = stderr.trim().split('\n').at(-1) || `it is Python ${stdout.trim()}`;
  const hint = 'Install Python 3.8 or newer with venv (Debian: python3-venv), or name where it is.';
  return { what: 'python', ok: false, detail: sentence(`${python} cannot be used: ${said}`), hint };
}

/** Of the nearest folder that is there. */
const room =
  'cd; folder=$1; until [ -d "$folder" ]; do folder=$(dirname -- "$folder"); done; [ -w "$folder" ] && df -Pk -- "$folder" | awk \'END { print $4 }\'';

async function disk(connection: SshConnection, folder: string): Promise<Finding> {
  const { code, stdout } = await connection.run({ words: ['sh', '-c', room, 'sh', folder.replace(/^~\//, '')] });
  if (code !== 0)
    return {
      what: 'disk',
      ok: false,
      detail: `The folder ${folder} cannot be written.`,
      hint: 'Name a folder that belongs to the user.',
    };
  const megabytes = Math.floor(Number(stdout) / 1024);
  const ok = megabytes >= 64;
  return {
    what: 'disk',
    ok,
    detail: `${megabytes} MB are free in ${folder}.`,
    ...(!ok && { hint: 'Make room there, or name another folder.' }),
  };
}

/** Laid, used and taken away. */
async function wayBack(connection: SshConnection, python: string, connectHere: () => Duplex): Promise<Finding> {
  const what = 'way back';
  const hint =
    'Let sshd there forward sockets: AllowStreamLocalForwarding yes (and no DisableForwarding) in its sshd_config.';
  const folder = `/tmp/stellwerk-probe-${randomBytes(8).toString('hex')}`;
  try {
    await connection.run({ words: ['mkdir', '-m', '700', folder] });
    await connection.relay(`${folder}/relay`, connectHere);
    const { code, stderr } = await connection.run({ words: [python, '-c', askServer, `${folder}/relay`] });
    if (code === 0) return { what, ok: true, detail: 'What runs there reaches this server through the connection.' };
    const said = stderr.trim().split('\n').at(-1) || 'it was refused';
    return { what, ok: false, detail: sentence(`What runs there does not reach this server: ${said}`), hint };
  } catch (error) {
    return { what, ok: false, detail: sentence((error as Error).message), hint };
  } finally {
    await connection.run({ words: ['rm', '-rf', folder] }).catch(() => {});
  }
}

export const sentence = (text: string) => `${text.replace(/[.\s]+$/, '')}.`;
