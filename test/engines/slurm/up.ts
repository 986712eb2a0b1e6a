// `node test/engines/slurm/up.ts [newer]` brings a cluster up and prints how to use it; `up.ts down <folder>` takes it away.
import { newerRelease } from './newer-release.ts';
import { whyNoSlurm } from './packages.ts';
import { SlurmCluster } from './slurm-cluster.ts';

if (whyNoSlurm) throw new Error(`This machine cannot have one: ${whyNoSlurm}.`);
if (process.argv[2] === 'down') await SlurmCluster.found(process.argv[3]!).down();
else {
  const cluster = await SlurmCluster.up(process.argv[2] === 'newer' ? { root: newerRelease() } : {});
  const { folder, address, port, hostKey, restUrl } = cluster;
  const key = `${folder}/engine/keys/trainer`;
  console.log(JSON.stringify({ folder, address, port, user: 'trainer', key, hostKey, restUrl }, undefined, 2));
  process.exit(0);
}
