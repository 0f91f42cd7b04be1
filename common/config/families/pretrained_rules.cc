// The rules of models that say no more than which trained one they begin with.
#include "common/config/families/rules.h"

namespace espalier::config {
namespace {

class Pretrained : public FamilyRules {
 public:
  void ValidateModel(const v1::ModelSpec& given, const v1::MethodSpec&,
                     const Checker& at) const override {
    v1::ModelSpec rest = given;
    rest.clear_pretrained();
    at.Check(rest.ByteSizeLong() == 0, "pretrained",
             "expected the layers or the name of a model beside it, or nothing else, found "
             "other fields; the trained model says them: remove them");
  }
  // The trained model's inputs are not known here.
  void ValidateInputs(const v1::DataSpec& data, const v1::ModelSpec&, bool,
                      const Checker& at) const override {
    at.In("augmentation")
        .Whole("crop_padding", data.augmentation().crop_padding(), 0, kMaxCropPadding);
  }
  void ApplyModelDefaults(v1::ModelSpec&) const override {}
};

}  // namespace

const FamilyRules& PretrainedRules() {
  static const Pretrained rules;
  return rules;
}

}  // namespace espalier::config
