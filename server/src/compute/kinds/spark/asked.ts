// What a run asks of Spark, on top of what its target has for all runs; and what of it Spark cannot do there.
import type { SettingsOf } from '@stellwerk/contract/compute-settings.ts';
import type { Job } from '@stellwerk/contract/job.ts';
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import type { Flaw } from '../../driver.ts';

export type Asked = NonNullable<Job['spark']>;

/** What the run says goes before what the target says. */
export function askedOf(settings: SettingsOf<'spark'>, { spark = {} }: RunConfiguration): Asked {
  const master = spark.master ?? settings.master;
  const properties = { ...settings.sparkSettings, ...spark.settings };
  return {
    ...spark,
    ...(master !== undefined && { master }),
    ...(Object.keys(properties).length > 0 && { settings: properties }),
    ...(settings.sparkHome !== undefined && { home: settings.sparkHome }),
    ...(settings.relayAddress !== undefined && { relayHost: settings.relayAddress }),
  };
}

/** These have fields of their own. */
const named: Record<string, string> = {
  'spark.master': 'master',
  'spark.submit.deployMode': 'deployMode',
  'spark.submit.pyFiles': 'pyFiles',
  'spark.jars.packages': 'packages',
  'spark.jars.repositories': 'repositories',
};

export function flawsOf(settings: SettingsOf<'spark'>, configuration: RunConfiguration): Flaw[] {
  const { spark } = configuration;
  if (!spark) return [];
  const flaws: Flaw[] = [];
  for (const property of Object.keys(spark.settings ?? {}).filter((name) => named[name] !== undefined))
    flaws.push({ field: 'spark.settings', why: `takes ${property} as spark.${named[property]} only` });
  if (spark.deployMode === 'cluster') flaws.push(...flawsOfClusterMode(settings, configuration));
  if (settings.livy === undefined) return flaws;
  if (spark.master !== undefined)
    flaws.push({ field: 'spark.master', why: 'is used by Livy, whose own configuration names the cluster manager' });
  if (spark.pyFiles?.length)
    flaws.push({
      field: 'spark.pyFiles',
      why: 'is used by Livy, which starts Spark before the directory is there; hand them to the executors with SparkContext.addPyFile',
    });
  return flaws;
}

function flawsOfClusterMode(settings: SettingsOf<'spark'>, configuration: RunConfiguration): Flaw[] {
  const why = whyNoClusterMode(settings, askedOf(settings, configuration).master);
  if (why !== undefined) return [{ field: 'spark.deployMode', why: `${why}; use client` }];
  if (!configuration.spark?.pyFiles?.length) return [];
  const instead = 'hand them to the executors with SparkContext.addPyFile';
  return [
    {
      field: 'spark.pyFiles',
      why: `takes none in cluster mode, where Spark starts before the directory is there; ${instead}`,
    },
  ];
}

function whyNoClusterMode({ livy }: SettingsOf<'spark'>, master = ''): string | undefined {
  if (livy !== undefined) return 'is used by Livy, which starts scripts in client mode';
  if (master === 'yarn') return undefined;
  if (master.startsWith('spark://')) return 'has a standalone master, which starts no Python scripts in cluster mode';
  if (master.startsWith('local')) return 'has no cluster to start the script on';
  return 'starts scripts in cluster mode only where the master is `yarn`';
}
