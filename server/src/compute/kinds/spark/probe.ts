// Whether a Spark cluster can be used: its head node as any machine by SSH, then Spark on it, the cluster manager, and Livy where it has one.
import type { SettingsOf } from '@stellwerk/contract/compute-settings.ts';
import type { SshConnection } from '../../../exec/ssh/connection.ts';
import type { Target } from '../../driver.ts';
import type { SshNeeds } from '../ssh/machine.ts';
import { type Finding, probed as probedMachine } from '../ssh/probe.ts';
import { Livy } from './livy.ts';

/** Where Spark is, as the runner finds it. */
// biome-ignore lint/suspicious/noTemplateCurlyInString: it is for a shell
const askVersion = 'home=${1:-$SPARK_HOME}; exec "${home:+$home/bin/}spark-submit" --version';

const askMaster = `
import socket, sys
for place in sys.argv[1].split(","):
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 10).close()
        sys.exit(0)
    except OSError as error:
        said = error
sys.exit(str(said))
`;

export function probed(target: Target<'spark'>, needs: SshNeeds): Promise<Finding[]> {
  const { settings } = target;
  return probedMachine(target, needs, async (connection) => {
    const findings = [await spark(connection, settings)];
    if (settings.master?.startsWith('spark://')) findings.push(await master(connection, settings));
    if (settings.livy !== undefined) findings.push(await livy(connection, target, needs));
    return findings;
  });
}

async function spark(connection: SshConnection, { sparkHome = '' }: SettingsOf<'spark'>): Promise<Finding> {
  const words = ['sh', '-c', askVersion, 'sh', sparkHome];
  const { code, stderr, stdout } = await connection.run({ words, timeoutMs: 60_000 });
  const version = /version (\d[\w.-]*)/.exec(`${stderr}${stdout}`)?.[1];
  if (code === 0 && version !== undefined) return { what: 'spark', ok: true, detail: `It is Spark ${version}.` };
  const said = stderr.trim().split('\n').at(-1) || 'it does not tell its version';
  const hint = 'Install Spark with Java there, and name where it is as sparkHome.';
  return { what: 'spark', ok: false, detail: sentence(`spark-submit cannot be started: ${said}`), hint };
}

async function master(connection: SshConnection, { master = '', python }: SettingsOf<'spark'>): Promise<Finding> {
  const words = [python, '-I', '-S', '-c', askMaster, master.replace('spark://', '')];
  const { code, stderr } = await connection.run({ words, timeoutMs: 60_000 });
  if (code === 0) return { what: 'master', ok: true, detail: `${master} answers.` };
  const hint = 'See that the master runs there, and that its address is as its own page shows it.';
  return { what: 'master', ok: false, detail: sentence(`${master} cannot be reached: ${stderr.trim()}`), hint };
}

async function livy(connection: SshConnection, target: Target<'spark'>, needs: SshNeeds): Promise<Finding> {
  const { livy, livyPassword } = target.settings;
  try {
    const password = livyPassword === undefined ? undefined : await needs.secret(target, livyPassword);
    await new Livy(connection, target.settings, { ...(password !== undefined && { password }) }).find('');
    return { what: 'livy', ok: true, detail: `Livy answers at ${livy}.` };
  } catch (error) {
    const hint = 'See that Livy runs, that its address is as the head node sees it, and who may sign in to it.';
    return { what: 'livy', ok: false, detail: sentence((error as Error).message), hint };
  }
}

const sentence = (text: string) => `${text.replace(/[.\s]+$/, '')}.`;
