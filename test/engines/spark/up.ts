// `node test/engines/spark/up.ts` brings a Spark with Livy up and prints how to use it; `up.ts down <folder>` takes it away.
import { SparkCluster, whyNoLivy, whyNoSpark } from './spark-cluster.ts';

if (whyNoSpark) throw new Error(`This machine cannot have one: ${whyNoSpark}.`);
if (process.argv[2] === 'down') await SparkCluster.found(process.argv[3]!).down();
else {
  const { host, master, masterPage, livy, python } = await SparkCluster.up({ livy: !whyNoLivy });
  const { folder, address, port, user, password, hostKey } = host;
  const found = { folder, address, port, user, password, hostKey, key: `${folder}/keys/user`, master, masterPage };
  console.log(JSON.stringify({ ...found, ...(!whyNoLivy && { livy }), python }, undefined, 2));
  process.exit(0);
}
