// `node test/engines/kubernetes/up.ts` brings a cluster up and prints how to use it; `up.ts down <folder>` takes it away.
import { KubernetesCluster, whyNoKubernetes } from './kubernetes-cluster.ts';

if (whyNoKubernetes) throw new Error(`This machine cannot have one: ${whyNoKubernetes}.`);
if (process.argv[2] === 'down') await KubernetesCluster.found(process.argv[3]!).down();
else {
  const { folder, node, image, address } = await KubernetesCluster.up();
  const kubeconfig = `${folder}/pki/admin.kubeconfig`;
  console.log(JSON.stringify({ folder, kubeconfig, node, image, address: `https://${address}:6443` }, undefined, 2));
  process.exit(0);
}
