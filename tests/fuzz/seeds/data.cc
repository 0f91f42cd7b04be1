#include <cstdint>
#include <string>
#include <vector>

#include "espalier/v1/predict.pb.h"
#include "tests/fuzz/seeds/seeds.h"
#include "tests/unit/worker/data/image_files.h"
#include "tests/unit/worker/data/test_files.h"

namespace espalier::fuzz {
namespace {

using worker::data::CifarRecord;
using worker::data::Gzip;
using worker::data::Idx;
using worker::data::Npy;
using worker::data::Raw;

void AddArrays(const Seeds& seeds) {
  const std::string labels = Idx(8, {2}, std::string("\x01\x00", 2));
  seeds.Add("arrays", "idx-groups", Chosen(0) + Idx(0x0C, {2, 3}, std::string(24, '\0')));
  seeds.Add("arrays", "npy-groups", Chosen(1) + Npy("<i8", "(2,)", Raw<int64_t>({0, 1})));
  seeds.Add("arrays", "text-groups", Chosen(2) + "1\n-2\r\n3\n");
  seeds.Add("arrays", "idx-labels", Chosen(3) + labels);
  seeds.Add("arrays", "idx", Chosen(4, 0) + AsPart(labels) + Idx(8, {2, 1, 3}, "abcdef"));
  seeds.Add("arrays", "idx-gzip",
            Chosen(4, 0) + AsPart(Gzip(labels)) + Gzip(Idx(8, {2, 1, 3}, "abcdef")));
  seeds.Add("arrays", "cifar", Chosen(5, 0) + AsPart("") + CifarRecord(1, 7));
  const std::string classes = Npy("<i4", "(2,)", Raw<int32_t>({0, 1}));
  seeds.Add("arrays", "npy-f4",
            Chosen(6, 0) + AsPart(classes) + Npy("<f4", "(2, 1)", Raw<float>({1, 2})));
  seeds.Add("arrays", "npy-u1", Chosen(6, 0) + AsPart(classes) + Npy("|u1", "(2, 2)", "abcd"));
  seeds.Add("arrays", "npy-f8",
            Chosen(6, 3) + AsPart(Npy("<f8", "(2, 1)", Raw<double>({1, 2}))) +
                Npy("<f8", "(2, 1)", Raw<double>({1, 2})));
  seeds.Add("arrays", "npy-input",
            Chosen(6, 4) + AsPart("") + Npy("<i8", "(2, 1)", Raw<int64_t>({1, 2})));
}

// The choices of a table: delimiter, header, missing, words, target, label column, agreement.
void AddTables(const Seeds& seeds) {
  const auto add = [&seeds](const std::string& name, const std::string& choices,
                            const std::string& train, const std::string& test = "") {
    seeds.Add("table", name, choices + AsPart(train) + test);
  };
  add("plain", Chosen(0, 0, 0, 0, 0, 0, 0), "1,2,0\n3,4.5,1\n5,6,0\n", "7,8,1\n");
  add("header", Chosen(0, 0, 0, 0, 0, 3, 1), "a,b,y\n1,2,cat\n3,4,dog\n", "b,a,y\n2,1,cat\n");
  add("words", Chosen(2, 1, 2, 2, 0, 3, 1), "a;y;b\nred;0;1,5\n\"bl\"\"ue\";1;\n;0;2,5\n",
      "a;y;b\nred;1;1\n");
  add("drop", Chosen(0, 0, 3, 0, 0, 0, 1), "a,b,y\n1,?,0\n2,3,1\nNA,1,0\n");
  add("values", Chosen(0, 1, 0, 0, 3, 3, 1), "a,y\n1,0.5\n2,-1e3\n");
  add("labels", Chosen(0, 2, 0, 0, 2, 1, 1), "0,1,2\n1,3,4\n");
  add("input", Chosen(3, 0, 2, 0, 4, 0, 1), "a\tb\n1\t2\n\t3\n");
  add("gzip", Chosen(0, 0, 0, 0, 0, 0, 0), Gzip("1,2,0\n3,4,1\n"));
  add("latin", Chosen(0, 0, 0, 0, 0, 0, 0),
      "\xEF\xBB\xBF"
      "a,b,y\r\n1,2,\xE9t\xE9\r\n3,4,x\r\n# c,,\r\n");
  add("long", Chosen(0, 0, 0, 0, 0, 0, 1), "300,1e10,0\n-1,2,1\n0.1,.5,2\n");
}

// The choices: files, delimiter, header, format, split, user core, item core, rating, time,
// validate, users.
void AddInteractions(const Seeds& seeds) {
  const auto add = [&seeds](const std::string& name, const std::string& choices,
                            const std::string& train, const std::string& test = "") {
    seeds.Add("interactions", name, choices + AsPart(train) + test);
  };
  add("csv", Chosen(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
      "user_id,item_id,rating,timestamp\n1,10,5,100\n1,11,3,101\n2,10,4,102\n2,12,1,103\n3,11,2,"
      "9\n3,12,2,8\n");
  add("movielens", Chosen(1, 0, 0, 1, 1, 1, 1, 2, 1, 1, 0),
      "1::10::5::100\n1::11::3::101\n1::12::3::90\n2::10::4::1\n2::11::4::2\n2::12::5::3\n");
  add("lightgcn", Chosen(2, 0, 0, 2, 3, 0, 0, 0, 0, 0, 0), "0 1 2 3\n1 2 3\n2 0\n", "0 0\n1 1\n");
  add("tabs", Chosen(3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0),
      "1\t10\t5\t100\n1\t11\t3\t101\n1\t12\t3\t101\n1\t13\t3\t10\n1\t14\t1\t1\n2\t10\t4\t102\n");
  add("words", Chosen(0, 0, 0, 3, 4, 0, 0, 0, 1, 0, 1),
      "user,item,time\nann,x1,2020-01-02\nann,x2,2020-01-03 "
      "10:00:00\nbob,x1,2020-02-01\nbob,x3,2021-01-01\ncy,x2,2020-05-05\ncy,x3,2020-05-06\n");
  add("unclear", Chosen(4, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0), "u,i\na1,b1\na1,b2\na2,b1\n",
      "a1,b3\na2,b2\n");
}

void AddImages(const Seeds& seeds) {
  const auto add = [&seeds](const std::string& name, const std::string& file) {
    seeds.Add("images", name, Chosen(5) + file);
  };
  const std::vector<uint8_t> values(4 * 3 * 8, 100);
  add("grey", worker::data::Png({.width = 4, .height = 3}, values));
  add("color", worker::data::Png({.width = 4,
                                  .height = 3,
                                  .color = PNG_COLOR_TYPE_RGB,
                                  .interlaced = true,
                                  .exif = worker::data::Exif(6)},
                                 values));
  add("alpha",
      worker::data::Png({.width = 4, .height = 3, .color = PNG_COLOR_TYPE_RGB_ALPHA, .depth = 16},
                        values));
  add("palette", worker::data::Png({.width = 4,
                                    .height = 3,
                                    .color = PNG_COLOR_TYPE_PALETTE,
                                    .depth = 2,
                                    .palette = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}},
                                   std::vector<uint8_t>(3, 0x24)));
  std::vector<uint8_t> exif = {'E', 'x', 'i', 'f', 0, 0};
  for (const uint8_t byte : worker::data::Exif(8)) exif.push_back(byte);
  const std::vector<uint8_t> pixels(8 * 8 * 4, 90);
  add("jpeg", worker::data::Jpeg({.exif = exif}, pixels));
  add("jpeg-grey", worker::data::Jpeg({.color = JCS_GRAYSCALE, .progressive = true}, pixels));
  add("jpeg-cmyk", worker::data::Jpeg({.color = JCS_CMYK}, pixels));
}

void AddLines(const Seeds& seeds) {
  const std::string lines =
      "\xEF\xBB\xBF{\"text\": \"ab\", \"n\": 1}\r\n\n{\"n\": {}, \"text\": \"c\\u00e9\\n\"}";
  seeds.Add("text_lines", "lines", Chosen(0) + lines);
  seeds.Add("text_lines", "gzip", Chosen(0) + Gzip(lines));
  seeds.Add("text_lines", "field",
            Chosen(1) + AsPart("story") + "{\"story\":\"once\",\"a\":[1,2.5e3,true,null]}\n");
}

void AddExamples(const Seeds& seeds) {
  v1::Examples cells;
  for (const char* name : {"c", "b", "a", "y"}) cells.add_columns(name);
  for (const char* word : {"1", "cat", "2.5", "0"}) cells.add_examples()->add_cells(word);
  v1::Examples table = cells;
  table.clear_examples();
  v1::Example& row = *table.add_examples();
  for (const char* word : {"1", "cat", "2.5", "0"}) row.add_cells(word);
  seeds.Add("examples", "named", Chosen(1) + table.SerializeAsString());
  table.clear_columns();
  table.mutable_examples(0)->mutable_cells()->RemoveLast();
  *table.mutable_examples(0)->mutable_cells(0) = "";
  seeds.Add("examples", "unnamed", Chosen(0) + table.SerializeAsString());
  seeds.Add("examples", "ragged", Chosen(1) + cells.SerializeAsString());
  v1::Examples values;
  for (const float value : {1.F, 2.5F, -3.F}) {
    if (values.examples_size() == 0) values.add_examples();
    values.mutable_examples(0)->add_values(value);
  }
  seeds.Add("examples", "values", Chosen(2) + values.SerializeAsString());
  v1::Examples image;
  image.add_examples()->set_image(worker::data::GreyPng(3, 2, {1, 2, 3, 4, 5, 6}));
  seeds.Add("examples", "image", Chosen(3) + image.SerializeAsString());
}

}  // namespace

void AddDataSeeds(const Seeds& seeds) {
  AddArrays(seeds);
  AddTables(seeds);
  AddInteractions(seeds);
  AddImages(seeds);
  AddLines(seeds);
  AddExamples(seeds);
}

}  // namespace espalier::fuzz
