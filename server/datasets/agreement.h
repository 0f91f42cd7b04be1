// What the sites of one job agree on about its data set, by how each of them describes it.
//
// Names are part of data: columns are matched by the names in the headers, and classes are numbered
// by their names over all sites. Divided data must be the same at every worker, byte for byte.
//
// Threading:   pure functions.
// Determinism: a function of the descriptions alone, whatever order they came in: columns are in
//              the order of the worker whose id comes first, names of classes and words in the
//              order of their bytes, means are sums over the workers in the order of their ids.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/config/parameters.h"
#include "espalier/v1/data.pb.h"
#include "espalier/v1/job.pb.h"

namespace espalier::server::datasets {

// By worker id.
using Descriptions = std::map<std::string, v1::DatasetInfo>;

struct Agreed {
  v1::Agreement agreement;
  // The data set as the model sees it: features, classes, counts. With local data the counts are
  // those of all sites together; users and items are 0 then.
  v1::DatasetInfo info;
  // Workers that take no part, and why.
  std::map<std::string, std::string> left_out;
};

// `data` has its defaults. Appends violations and returns nullopt when the workers that can use the
// data set do not agree, or none can. Of workers that differ, more than half decide; the others are
// left out. `all` must not be empty.
std::optional<Agreed> Agree(const v1::DataSpec& data, const Descriptions& all,
                            std::vector<config::Violation>& violations);

// Why a worker that describes the data set so cannot take part in a job that agreed on this; "" if
// it can. For workers that come after the job began.
std::string Deviation(const v1::DataSpec& data, const Agreed& agreed, const v1::DatasetInfo& info);

// What tasks need of a job's data: equal files have one order of columns, so that their names need
// not travel with every task. Whoever predicts finds them in the checkpoint.
v1::DataSpec ForTasks(const v1::DataSpec& data);

// Fills in what the job leaves out and the data set says: input features or the image, outputs of
// the last layer, users and items. Before defaults. Appends a violation when labels would need more
// outputs than there are examples: they are no classes then.
void FillIn(const v1::DatasetInfo& info, v1::JobSpec& spec,
            std::vector<config::Violation>& violations);

// Sets the job's list of workers that take no part.
void TellLeftOut(const std::map<std::string, std::string>& left_out, v1::Job& job);

}  // namespace espalier::server::datasets
