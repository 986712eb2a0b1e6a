// Whether a cluster can be used: its login node as a machine by SSH, then Slurm there, its partition, and the REST interface where that is asked.
import type { Target } from '../../driver.ts';
import { connect, type SshNeeds } from '../ssh/machine.ts';
import { type Finding, probed as probedBySsh, sentence } from '../ssh/probe.ts';
import { bySsh, signedInAs } from './login-node.ts';
import { groupsFor, type NodeGroup, nodeGroups } from './nodes.ts';
import type { Rest } from './rest.ts';
import { RestGround, type RestNeeds } from './rest-ground.ts';

export type SlurmNeeds = SshNeeds & RestNeeds;

export async function probed(
  target: Target<'slurm'>,
  needs: SlurmNeeds,
  rest: (target: Target<'slurm'>) => Rest | undefined,
): Promise<Finding[]> {
  if (target.settings.address === undefined) return probedByRest(target, needs, rest(target));
  const findings = await probedBySsh(bySsh(target), needs);
  if (findings.every(({ ok }) => ok)) findings.push(...(await slurmThere(target, needs)));
  if (findings.every(({ ok }) => ok)) {
    const asked = rest(target);
    if (asked) findings.push(await restThere(asked, target));
    for (const user of Object.keys(target.settings.users ?? {})) findings.push(await userThere(target, needs, user));
  }
  return findings;
}

/** With jobs on a node, which try Python and the way back there. */
async function probedByRest(target: Target<'slurm'>, needs: SlurmNeeds, rest: Rest | undefined): Promise<Finding[]> {
  if (!rest)
    return [
      { what: 'rest', ok: false, detail: 'There is no token for it.', hint: 'Name the secret that holds it as token.' },
    ];
  const findings = [await restThere(rest, target)];
  if (!findings[0]!.ok) return findings;
  findings.push(partitionIn(await rest.groups(), target));
  if (!findings[1]!.ok) return findings;
  const ground = new RestGround(target, rest, needs);
  findings.push(await pythonOn(ground));
  if (findings.at(-1)!.ok) findings.push(await wayBackFrom(ground, needs.publicUrl()));
  return findings;
}

async function pythonOn(ground: RestGround): Promise<Finding> {
  const what = 'python';
  try {
    await ground.described();
    return { what, ok: true, detail: 'A node has a Python that runs the runner.' };
  } catch (error) {
    const hint =
      'See that jobs of this user are started, and that the nodes have Python 3.8 or newer with venv, and scontrol.';
    return { what, ok: false, detail: sentence((error as Error).message), hint };
  }
}

async function wayBackFrom(ground: RestGround, url: string): Promise<Finding> {
  const what = 'way back';
  try {
    await ground.tryWayBack();
    return { what, ok: true, detail: `What runs there reaches this server at ${url}.` };
  } catch (error) {
    const hint =
      'Give the server a public address that nodes reach (--public-url), or let the target have a login node by SSH.';
    return { what, ok: false, detail: sentence((error as Error).message), hint };
  }
}

function partitionIn(groups: readonly NodeGroup[], { settings: { partition, user } }: Target<'slurm'>): Finding {
  const there = groupsFor(groups, partition);
  if (there.length > 0) {
    const total = there.reduce((all, { count }) => all + count, 0);
    return { what: 'partition', ok: true, detail: `${partition ?? 'The default partition'} has ${total} nodes.` };
  }
  const names = [...new Set(groups.map(({ partition: name }) => name))];
  const hint = `The cluster has the partitions ${names.join(', ')}.`;
  return { what: 'partition', ok: false, detail: `There is no partition ${partition} that ${user} can see.`, hint };
}

async function slurmThere(target: Target<'slurm'>, needs: SshNeeds): Promise<Finding[]> {
  const connection = await connect(bySsh(target), needs);
  try {
    const version = await connection.run({ words: ['sbatch', '--version'], timeoutMs: 30_000 });
    if (version.code !== 0) {
      const hint = 'Name the login node of the cluster, where sbatch, squeue and scancel are on the PATH.';
      return [
        { what: 'slurm', ok: false, detail: sentence(`sbatch cannot be started: ${version.stderr.trim()}`), hint },
      ];
    }
    const groups = await nodeGroups(connection).catch((error: Error) => error);
    if (groups instanceof Error)
      return [{ what: 'slurm', ok: false, detail: sentence(groups.message), hint: 'See that slurmctld runs.' }];
    return [{ what: 'slurm', ok: true, detail: `${version.stdout.trim()} answers.` }, partitionIn(groups, target)];
  } finally {
    connection.close();
  }
}

async function restThere(rest: Rest, { settings }: Target<'slurm'>): Promise<Finding> {
  const detail = await rest.ping().then(
    () => undefined,
    (error: Error) => error.message,
  );
  if (detail === undefined) return { what: 'rest', ok: true, detail: `${settings.restUrl} answers.` };
  return {
    what: 'rest',
    ok: false,
    detail: sentence(detail),
    hint: 'See that slurmrestd answers there with rest_auth/jwt, and that the token is of this user and still good.',
  };
}

async function userThere(target: Target<'slurm'>, needs: SshNeeds, user: string): Promise<Finding> {
  const what = `sign-in of ${user}`;
  const own = signedInAs(target, user);
  try {
    (await connect(bySsh(own), needs)).close();
    return { what, ok: true, detail: `${user} is signed in as ${own.settings.user}.` };
  } catch (error) {
    const hint = `See that ${own.settings.user} may sign in there with this key or password.`;
    return { what, ok: false, detail: sentence((error as Error).message), hint };
  }
}
