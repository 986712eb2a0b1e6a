// How the cluster is configured: a head, where users sign in and all services run, machines that are always on, and machines that are switched on
// when they are wanted. Addresses are of a network of its own that leads nowhere else.

export const headAddress = '10.77.0.1';
export const restPort = 6820;
/** Two who train, and one who may change the cluster. */
export const users = ['trainer', 'alice', 'chief'] as const;
export type ClusterUser = (typeof users)[number];

/** Always on; those with a GPU have two that are only declared. */
export const nodes = ['node0', 'node1', 'node2'];
/** Switched on when they are wanted. */
export const cloudNodes = ['cloud0', 'cloud1', 'cloud2'];

export const addressOf = (node: string) => `10.77.0.${10 + [...nodes, ...cloudNodes].indexOf(node)}`;

export function hosts(): string {
  const lines = [...nodes, ...cloudNodes].map((node) => `${addressOf(node)} ${node}`);
  return ['127.0.0.1 localhost', `${headAddress} head`, ...lines, ''].join('\n');
}

export function slurmConf(keepsAccounts: boolean): string {
  const each = (names: string[], more: string) =>
    names.map((name) => `NodeName=${name} NodeAddr=${addressOf(name)} CPUs=4 RealMemory=4000 ${more}`);
  return `ClusterName=stellwerk
SlurmctldHost=head(${headAddress})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key=/etc/slurm/jwt.key
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/run/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
SlurmdParameters=config_overrides
SlurmctldParameters=cloud_dns,idle_on_node_suspend
SlurmdTimeout=10
BatchStartTimeout=10
ReturnToService=2
MinJobAge=300
KillWait=5
EnforcePartLimits=ALL
SchedulerParameters=sched_interval=2,batch_sched_delay=0,sched_min_interval=100000
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
PrologFlags=Alloc
TreeWidth=65533
${keepsAccounts ? 'AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n' : ''}JobCompType=jobcomp/none
SuspendProgram=/engine/suspend.sh
ResumeProgram=/engine/resume.sh
SuspendTime=10
SuspendTimeout=5
ResumeTimeout=60
ResumeRate=0
SuspendRate=0
SuspendExcNodes=${nodes.join(',')}
PrivateData=cloud
GresTypes=gpu
${each(nodes.slice(0, 1), 'Feature=small,with-gpu Gres=gpu:a100:2 State=UNKNOWN').join('\n')}
${each(nodes.slice(1), 'Feature=small State=UNKNOWN').join('\n')}
${each(cloudNodes, 'Feature=cloud,standard_d4 State=CLOUD').join('\n')}
PartitionName=batch Nodes=${nodes.join(',')} Default=YES MaxTime=02:00:00 PriorityTier=10 State=UP
PartitionName=scavenge Nodes=${nodes.join(',')} MaxTime=02:00:00 PriorityTier=1 State=UP
PartitionName=elastic Nodes=${cloudNodes.join(',')} MaxTime=02:00:00 PriorityTier=10 State=UP
`;
}

export const gresConf = `NodeName=${nodes[0]} Name=gpu Type=a100 File=/engine/gpu[0-1]\n`;
/** No control groups are used; the plugin wants to be told where they are all the same. */
export const cgroupConf = 'CgroupPlugin=cgroup/v1\nCgroupMountpoint=/run/cgroup\n';

export const slurmdbdConf = `AuthType=auth/munge
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key=/etc/slurm/jwt.key
DbdHost=localhost
DbdAddr=127.0.0.1
SlurmUser=root
LogFile=/var/log/slurmdbd.log
PidFile=/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
`;

export const sshdConfig = `Port 2222
HostKey /engine/keys/host
PidFile /run/sshd.pid
AuthorizedKeysFile /engine/authorized/%u
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin no
AllowUsers ${users.join(' ')}
UseDNS no
Subsystem sftp internal-sftp
`;
