// What the parts of a cluster are told: files in its folder, and arguments. What is said here and looks odd makes it run on a machine with
// control groups of version 1, without systemd and without the right to raise limits.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Place {
  folder: string;
  /** Of the node, and of the control group that all its pods are in. */
  node: string;
  address: string;
  /** Debian's programs, unpacked. */
  debian: string;
}

export const pauseImage = 'registry.local/pause:1';
const services = '10.96.0.0/16';
const pods = '10.244.0.0/24';

/** What containerd is told of registries, each in a folder named by host and port. */
export const registriesFolder = ({ folder }: Pick<Place, 'folder'>) => join(folder, 'registries');

export const containerdSocket = ({ folder }: Place) => join(folder, 'containerd.sock');

export function writeSettings(place: Place): void {
  const { folder } = place;
  for (const name of ['cni', 'log', 'kubelet', 'containerd']) mkdirSync(join(folder, name), { recursive: true });
  writeFileSync(join(folder, 'cni', 'bridge.conflist'), JSON.stringify(network(folder)));
  writeFileSync(join(folder, 'containerd.toml'), containerd(place));
  writeFileSync(join(folder, 'kubelet.yaml'), JSON.stringify(kubelet(place)));
  writeFileSync(join(folder, 'proxy.yaml'), JSON.stringify(proxy(place)));
  writeFileSync(join(folder, 'resolv.conf'), 'nameserver 127.0.0.53\n');
}

const network = (folder: string) => ({
  cniVersion: '1.0.0',
  name: 'pods',
  plugins: [
    {
      type: 'bridge',
      bridge: 'cni0',
      isDefaultGateway: true,
      ipMasq: true,
      hairpinMode: true,
      ipam: { type: 'host-local', dataDir: join(folder, 'cni', 'addresses'), ranges: [[{ subnet: pods }]] },
    },
  ],
});

function containerd(place: Place): string {
  const { folder, debian } = place;
  return `version = 2
root = "${folder}/containerd/root"
state = "${folder}/containerd/state"
[grpc]
  address = "${containerdSocket(place)}"
[ttrpc]
  address = "${folder}/containerd.ttrpc.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "${folder}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${pauseImage}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "${registriesFolder(place)}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${debian}/usr/lib/cni"
    conf_dir = "${folder}/cni"
`;
}

function kubelet({ folder, node, address }: Place): object {
  const pki = join(folder, 'pki');
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    failCgroupV1: false,
    cgroupDriver: 'cgroupfs',
    cgroupRoot: `/${node}`,
    containerRuntimeEndpoint: `unix://${folder}/containerd.sock`,
    address,
    readOnlyPort: 0,
    healthzBindAddress: '127.0.0.1',
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: join(pki, 'ca.crt') },
    },
    authorization: { mode: 'Webhook' },
    tlsCertFile: join(pki, 'kubelet.crt'),
    tlsPrivateKeyFile: join(pki, 'kubelet.key'),
    clusterDomain: 'cluster.local',
    resolvConf: join(folder, 'resolv.conf'),
    failSwapOn: false,
    imagePullCredentialsVerificationPolicy: 'NeverVerify',
    oomScoreAdj: 0,
    enforceNodeAllocatable: ['pods'],
    evictionHard: { 'memory.available': '100Mi', 'nodefs.available': '1%', 'imagefs.available': '1%' },
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    nodeStatusUpdateFrequency: '2s',
    maxPods: 60,
    podPidsLimit: -1,
    maxOpenFiles: 20000,
    podLogsDir: join(folder, 'podlogs'),
    volumePluginDir: join(folder, 'kubelet', 'plugins'),
  };
}

function proxy({ folder, node, address }: Place): object {
  return {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode: 'iptables',
    clientConnection: { kubeconfig: join(folder, 'pki', 'proxy.kubeconfig') },
    clusterCIDR: pods,
    hostnameOverride: node,
    oomScoreAdj: 0,
    bindAddress: address,
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
  };
}

/** Each part with its arguments; one that ends is started again, so that they may wait for each other by failing. */
export function partsOf(place: Place): Record<string, string[]> {
  const { folder, node, address } = place;
  const pki = (name: string) => join(folder, 'pki', name);
  const signIn = (name: string) => {
    const file = pki(`${name}.kubeconfig`);
    return [`--kubeconfig=${file}`, `--authentication-kubeconfig=${file}`, `--authorization-kubeconfig=${file}`];
  };
  return {
    etcd: [
      `--name=${node}`,
      `--data-dir=${folder}/etcd`,
      '--unsafe-no-fsync',
      '--listen-client-urls=http://127.0.0.1:2379',
      '--advertise-client-urls=http://127.0.0.1:2379',
      '--listen-peer-urls=http://127.0.0.1:2380',
      '--initial-advertise-peer-urls=http://127.0.0.1:2380',
      `--initial-cluster=${node}=http://127.0.0.1:2380`,
      '--log-level=warn',
    ],
    'kube-apiserver': [
      '--etcd-servers=http://127.0.0.1:2379',
      `--advertise-address=${address}`,
      '--secure-port=6443',
      `--service-cluster-ip-range=${services}`,
      `--tls-cert-file=${pki('apiserver.crt')}`,
      `--tls-private-key-file=${pki('apiserver.key')}`,
      `--client-ca-file=${pki('ca.crt')}`,
      `--kubelet-client-certificate=${pki('apiserver-kubelet.crt')}`,
      `--kubelet-client-key=${pki('apiserver-kubelet.key')}`,
      `--kubelet-certificate-authority=${pki('ca.crt')}`,
      '--kubelet-preferred-address-types=InternalIP',
      '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
      `--service-account-key-file=${pki('accounts.pub')}`,
      `--service-account-signing-key-file=${pki('accounts.key')}`,
      '--authorization-mode=Node,RBAC',
      '--enable-admission-plugins=NodeRestriction',
      `--requestheader-client-ca-file=${pki('front-ca.crt')}`,
      '--requestheader-allowed-names=front-proxy-client',
      `--proxy-client-cert-file=${pki('front.crt')}`,
      `--proxy-client-key-file=${pki('front.key')}`,
    ],
    'kube-controller-manager': [
      ...signIn('controllers'),
      `--service-account-private-key-file=${pki('accounts.key')}`,
      `--root-ca-file=${pki('ca.crt')}`,
      '--use-service-account-credentials=true',
      '--leader-elect=false',
      '--bind-address=127.0.0.1',
      '--node-monitor-period=1s',
      '--node-monitor-grace-period=10s',
    ],
    'kube-scheduler': [...signIn('scheduler'), '--leader-elect=false', '--bind-address=127.0.0.1'],
    kubelet: [
      `--config=${folder}/kubelet.yaml`,
      `--kubeconfig=${pki('node.kubeconfig')}`,
      `--root-dir=${folder}/kubelet`,
      `--hostname-override=${node}`,
      `--node-ip=${address}`,
    ],
    'kube-proxy': [`--config=${folder}/proxy.yaml`],
  };
}
