// `node test/engines/spark/up.ts` brings a Spark with Livy up and prints how to use it, `up.ts yarn` one on YARN; `up.ts down <folder>` takes it away.
import { SparkCluster, whyNoJars, whyNoSpark } from './spark-cluster.ts';

if (whyNoSpark) throw new Error(`This machine cannot have one: ${whyNoSpark}.`);
if (process.argv[2] === 'down') await SparkCluster.found(process.argv[3]!).down();
else {
  const { host, master, masterPage, livy, python } = await SparkCluster.up(
    process.argv[2] === 'yarn' ? { yarn: true } : { livy: !whyNoJars },
  );
  const { folder, address, port, user, password, hostKey } = host;
  const found = { folder, address, port, user, password, hostKey, key: `${folder}/keys/user`, master, masterPage };
  console.log(JSON.stringify({ ...found, ...(!whyNoJars && { livy }), python }, undefined, 2));
  process.exit(0);
}
